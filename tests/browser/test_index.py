#!/usr/bin/env python3
"""index.html in a real browser: filters, search, language, keyboard, contrast, print, and hostile names that stay inert.

    cargo run --example demo_bundle -- demo.zip && unzip -q demo.zip -d demo
    python3 tests/browser/test_index.py demo/*/ --synthetic    # needs selenium, chromium and chromium-driver

Any bag with proofs, rejections and files will do; `--synthetic` adds what only the invented candidature holds (hostile
names, a second round). `tests/it/browser.rs` runs both.

GREFFIER_CHROMIUM and GREFFIER_CHROMEDRIVER name other binaries than /usr/bin's. Opened from file://, as a verifier does.
"""

import json
import os
import sys
import unittest
import urllib.parse
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

BAG: Path

# Own text of every visible element against what is painted behind it; WCAG 2.2 SC 1.4.3.
CONTRAST = """
const lum = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
  return .2126 * r + .7152 * g + .0722 * b; };
const parse = (s) => { const n = s.match(/[\\d.]+/g).map(Number); return n.length === 3 ? [...n, 1] : n; };
const behind = (el) => { for (let e = el; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; }
  return [255, 255, 255, 1]; };
const bad = [];
for (const el of document.querySelectorAll('body *')) {
  if (!['script', 'style', 'option'].includes(el.localName) && [...el.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && el.checkVisibility()) {
    const s = getComputedStyle(el), fg = lum(parse(s.color)), bg = lum(behind(el));
    const ratio = (Math.max(fg, bg) + .05) / (Math.min(fg, bg) + .05);
    const large = parseFloat(s.fontSize) >= 24 || (parseFloat(s.fontSize) >= 18.66 && Number(s.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push(`${el.localName}.${el.className} ${ratio.toFixed(2)} ${el.textContent.trim().slice(0, 30)}`);
  }
}
return [...new Set(bad)].slice(0, 20);
"""


def browser():
    options = Options()
    options.binary_location = os.environ.get("GREFFIER_CHROMIUM", "/usr/bin/chromium")
    for flag in (
        "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,1000"
    ).split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(os.environ.get("GREFFIER_CHROMEDRIVER", "/usr/bin/chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    # Half a minute by itself, in which a busy machine checks no deposit.
    driver.set_script_timeout(300)
    return driver


class InBrowser(unittest.TestCase):
    """Tests that share a browser."""

    @classmethod
    def setUpClass(cls):
        cls.d = browser()

    @classmethod
    def tearDownClass(cls):
        cls.d.quit()


class Page(InBrowser):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.url = (BAG / "index.html").resolve().as_uri()

    def setUp(self):
        self.d.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        self.media()
        self.size(1280, 1000)
        self.d.get(self.url)
        self.js("try { localStorage.clear() } catch {}")
        self.d.get("about:blank")
        self.d.get_log("browser")
        self.d.get(self.url)

    # -- small words
    def js(self, script, *args):
        return self.d.execute_script(script, *args)

    def id(self, name):
        return self.d.find_element(By.ID, name)

    def size(self, width, height):
        self.d.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        )

    def media(self, kind="", dark=False):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.d.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": [scheme, still]})

    def shown(self):
        return self.js("return [...document.querySelectorAll('.unit')].filter(e => e.checkVisibility()).length")

    def total(self):
        return self.js("return document.querySelectorAll('.unit').length")

    def search(self, text):
        field = self.id("q")
        field.clear()
        field.send_keys(text, Keys.ENTER)

    def reference(self):
        """The reference of a proof that no other one mentions."""
        return self.js(
            "const units = [...document.querySelectorAll('.unit')];"
            "return units.map(u => u.querySelector('h5 .ref')?.textContent).find(id => id && units.filter(u => u.textContent.includes(id)).length === 1)"
        )

    def settle(self, condition, why):
        WebDriverWait(self.d, 120).until(lambda _: condition(), why)

    # -- what a page must do
    def test_loads_without_a_word_in_the_console_and_asks_nobody(self):
        self.assertEqual(self.d.get_log("browser"), [])
        requests = self.js("return performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith('data:'))")
        self.assertEqual(requests, [])
        self.assertGreater(self.total(), 200)

    def test_every_link_leads_to_a_file_of_the_bundle(self):
        links = self.js("return [...document.querySelectorAll('.i-name a')].map(a => [a.href, a.rel, a.target])")
        self.assertEqual(self.js("return document.querySelectorAll('img:not([src^=\"data:image/\"])').length"), 0)
        self.assertGreater(len(links), 200)
        for href, rel, target in links:
            path = Path(urllib.parse.unquote(urllib.parse.urlparse(href).path))
            self.assertTrue(path.is_file(), href)
            self.assertIn((BAG / "data").resolve(), path.parents)
            self.assertEqual((rel, target), ("noopener noreferrer", "_blank"))
        anchors = self.js(
            "return [...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1)).filter(id => !document.getElementById(id))"
        )
        self.assertEqual(anchors, [], "anchors that lead nowhere")
        ids = self.js("const i = [...document.querySelectorAll('[id]')].map(e => e.id); return i.filter((x, n) => i.indexOf(x) !== n)")
        self.assertEqual(ids, [], "ids given twice")

    def test_filters_show_as_many_as_they_say(self):
        for chip in self.d.find_elements(By.CSS_SELECTOR, ".chips [data-f]"):
            chip.click()
            self.assertEqual(chip.get_attribute("aria-pressed"), "true")
            self.assertEqual(self.shown(), int(chip.find_element(By.CSS_SELECTOR, ".n").text), chip.text)
            status = chip.get_attribute("data-f")
            if status != "all":
                others = self.js("return [...document.querySelectorAll('.unit')].filter(e => e.checkVisibility() && e.dataset.s !== arguments[0]).length", status)
                self.assertEqual(others, 0)
        self.assertEqual(len(self.d.find_elements(By.CSS_SELECTOR, ".chips [data-f][aria-pressed=true]")), 1)

    def test_chapters_filter_and_combine_with_the_status(self):
        Select(self.id("chapter")).select_by_value("0")
        of_chapter = self.shown()
        self.assertEqual(of_chapter, self.js("return document.querySelectorAll('#c0 .unit').length"))
        self.d.find_element(By.CSS_SELECTOR, "[data-f=rejected]").click()
        self.assertLess(self.shown(), of_chapter)
        self.assertIn(str(self.shown()), self.id("shown").text)

    def test_search_finds_one_proof_by_its_reference(self):
        self.search(self.reference())
        self.assertEqual(self.shown(), 1)
        self.search("recapitulatif-introuvable")
        self.assertEqual(self.shown(), 0)
        self.assertTrue(self.id("none").is_displayed())
        self.id("reset").click()
        self.assertEqual(self.shown(), self.total())
        self.search(self.reference())
        self.id("q").send_keys(Keys.ESCAPE)
        self.assertEqual(self.shown(), self.total())
        self.assertEqual(self.d.find_elements(By.CSS_SELECTOR, ".hit"), [])

    def test_typing_searches_without_enter(self):
        self.id("q").send_keys(self.reference())
        self.settle(lambda: self.shown() == 1, "search as you type")

    def test_language_switches_everything_and_is_kept(self):
        self.assertEqual(self.js("return document.documentElement.lang"), "fr")
        self.id("lang-en").click()
        self.assertEqual(self.js("return document.documentElement.lang"), "en")
        left = self.js("return [...document.querySelectorAll('.l[lang=fr]')].filter(e => e.checkVisibility()).length")
        self.assertEqual(left, 0)
        self.assertIn("Reference", self.id("q").get_attribute("placeholder"))
        self.assertEqual(Select(self.id("chapter")).first_selected_option.text, "All chapters")
        self.assertIn("Needs attention", self.d.find_element(By.TAG_NAME, "main").text)
        self.d.refresh()
        self.assertEqual(self.js("return document.documentElement.lang"), "en")

    def test_keyboard_alone_is_enough(self):
        body = self.d.find_element(By.TAG_NAME, "body")
        body.send_keys(Keys.TAB)
        first = self.d.switch_to.active_element
        self.assertEqual(first.get_attribute("class"), "skip")
        self.assertGreaterEqual(first.rect["y"], 0, "the skip link shows when it has the focus")
        first.send_keys(Keys.ENTER)
        self.assertEqual(self.js("return document.activeElement.id"), "contenu")
        seen = set()
        self.js("document.querySelector('#q').focus()")
        for _ in range(12):
            active = self.d.switch_to.active_element
            seen.add(active.get_attribute("id") or active.get_attribute("data-f"))
            outline = self.js("const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2")
            self.assertTrue(outline, f"focus is not visible on {active.get_attribute('outerHTML')[:80]}")
            active.send_keys(Keys.TAB)
        self.assertTrue({"q", "chapter", "unfold", "all", "rejected", "prev", "next"} <= seen, seen)
        self.js("document.querySelector('[data-f=rejected]').focus()")
        self.d.switch_to.active_element.send_keys(Keys.SPACE)
        self.assertLess(self.shown(), self.total())

    def test_issues_are_walked_both_ways(self):
        issues = self.js("return [...document.querySelectorAll('.unit')].filter(e => !['accepted', 'optional'].includes(e.dataset.s)).map(e => e.id)")
        reached = []
        for _ in range(3):
            self.id("next").click()
            reached.append(self.js("return document.querySelector('.reached').id"))
        self.assertEqual(reached, issues[:3])
        self.assertTrue(self.js("const r = document.querySelector('.reached').getBoundingClientRect(); return r.top >= 0 && r.top < innerHeight"))
        hidden = self.js("return document.querySelector('.tools').getBoundingClientRect().bottom > document.querySelector('.reached').getBoundingClientRect().top + 2")
        self.assertFalse(hidden, "the toolbar covers what was reached")
        self.id("prev").click()
        self.assertEqual(self.js("return document.querySelector('.reached').id"), issues[1])

    def test_a_link_to_a_hidden_proof_shows_it(self):
        self.search("introuvable-partout")
        self.js("document.querySelector('.todo a').click()")
        self.settle(lambda: self.js("return document.querySelector(location.hash).checkVisibility()"), "the target shows")

    def test_headings_go_down_one_level_at_a_time_and_controls_have_names(self):
        levels = self.js("return [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => Number(h.localName[1]))")
        self.assertEqual(levels.count(1), 1)
        for before, after in zip(levels, levels[1:]):
            self.assertLessEqual(after, before + 1)
        nameless = self.js(
            "return [...document.querySelectorAll('button, a, input, select, img, nav, [role=group]')].filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.alt || (e.labels && e.labels.length))).map(e => e.outerHTML.slice(0, 80))"
        )
        self.assertEqual(nameless, [])

    def test_text_has_contrast_in_both_themes(self):
        self.assertEqual(self.js(CONTRAST), [], "light")
        self.id("theme").click()
        self.assertEqual(self.js("return getComputedStyle(document.body).backgroundColor"), "rgb(22, 22, 22)")
        self.assertEqual(self.js(CONTRAST), [], "dark, by the button")
        self.js("localStorage.clear()")
        self.media(dark=True)
        self.d.refresh()
        self.assertEqual(self.js("return getComputedStyle(document.body).backgroundColor"), "rgb(22, 22, 22)")
        self.assertEqual(self.js(CONTRAST), [], "dark, by the system")

    def test_nothing_overflows_on_a_narrow_screen(self):
        for width in (400, 320):
            self.size(width, 800)
            self.assertLessEqual(self.js("return document.scrollingElement.scrollWidth"), width)

    def test_without_script_everything_is_there(self):
        self.d.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        self.d.get("about:blank")
        self.d.get(self.url)
        self.assertEqual(self.shown(), self.total())
        self.assertEqual(self.js("return [...document.querySelectorAll('.js')].filter(e => e.checkVisibility()).length"), 0)
        self.assertEqual(self.js("return [...document.querySelectorAll('.l[lang=en]')].filter(e => e.checkVisibility()).length"), 0)

    def test_prints_light_and_unfolded_without_controls(self):
        self.id("theme").click()
        self.media("print")
        self.assertEqual(self.js("return getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)")
        self.assertEqual(self.js("return [...document.querySelectorAll('.tools, .side, .controls')].filter(e => e.checkVisibility()).length"), 0)
        self.js("dispatchEvent(new Event('beforeprint'))")
        self.assertEqual(self.js("return document.querySelectorAll('main details:not([open])').length"), 0)
        self.js("dispatchEvent(new Event('afterprint'))")
        self.assertGreater(self.js("return document.querySelectorAll('main details:not([open])').length"), 0)

    def test_previews_are_seen_in_proportion_and_keep_their_place(self):
        count = self.js("return document.querySelectorAll('.item img').length")
        self.assertGreater(count, 20)
        for width, dark in ((1280, False), (1280, True), (400, False)):
            self.size(width, 900)
            self.media(dark=dark)
            self.js("document.querySelectorAll('main details').forEach(d => { d.open = true })")
            self.js("return Promise.all([...document.images].map(i => i.decode()))")
            bad = self.js(
                "return [...document.images].filter(i => { const r = i.getBoundingClientRect(), ratio = (r.width - 2) / (r.height - 2) * i.naturalHeight / i.naturalWidth;"
                "return !i.naturalWidth || r.width < 20 || r.right > innerWidth || ratio < .95 || ratio > 1.05 || i.getAttribute('width') === null }).map(i => i.alt)"
            )
            self.assertEqual(bad, [], f"{width} px, dark: {dark}")

    def test_videos_show_a_frame_and_their_time_line_on_demand(self):
        first = self.js("return [...document.querySelectorAll('.item > .previews figcaption')].map(c => c.textContent)")
        frames = [c for c in first if ":" in c]
        self.assertTrue(frames and all(c.split(":")[-1].isdigit() for c in frames), first)
        if type(self) is Page:
            self.assertIn("page 1", first)
        strip = self.js("return [...document.querySelectorAll('.item details')].find(d => d.querySelector('summary').textContent.includes('Images le long'))")
        self.assertFalse(strip.find_element(By.TAG_NAME, "img").is_displayed())
        strip.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
        shown = strip.find_elements(By.TAG_NAME, "img")
        self.assertTrue(shown and all(i.is_displayed() for i in shown))
        self.assertTrue(shown[0].get_attribute("alt").startswith("Aperçu, "))
        self.id("lang-en").click()
        self.assertTrue(shown[0].get_attribute("alt").startswith("Preview, "))

    def test_the_policy_stops_what_an_attacker_would_add(self):
        self.js("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)")
        self.js("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\"><p style=\"color:red\">x</p>')")
        self.js("fetch('https://example.org/').catch(() => {})")
        self.settle(lambda: len([e for e in self.d.get_log("browser") if "Content Security Policy" in e["message"]]) > 0, "refusals are logged")
        self.assertIsNone(self.js("return window.ran ?? null"))


class Synthetic(Page):
    """What only the invented candidature holds."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.report = json.loads((BAG / "report.json").read_text(encoding="utf-8"))

    def changed(self):
        return self.d.find_element(By.ID, "changed")

    def test_hostile_names_are_text(self):
        names = [e for e in self.d.find_elements(By.CSS_SELECTOR, ".i-name bdi") if "<img src=x" in e.text]
        self.assertEqual(len(names), 1)
        self.assertIn("</script>", names[0].text)
        self.assertNotIn("\u202e", names[0].text)
        self.assertNotIn("pwned", self.d.title)
        self.assertEqual(self.js("return document.querySelectorAll('img:not([src^=\"data:image/\"])').length"), 0)

    def test_search_reads_the_text_of_documents_without_accents(self):
        self.search("TELESERVICE atteste")
        self.assertTrue(0 < self.shown() < self.total())
        marks = self.js("return [...document.querySelectorAll('.hit mark')].map((m) => m.textContent)")
        self.assertIn("téléservice", marks)
        # The text of documents is as hostile as their names.
        self.assertEqual(self.js("return document.querySelectorAll('.hit b, .hit script').length"), 0)
        self.id("q").send_keys(Keys.ESCAPE)
        self.assertEqual(self.d.find_elements(By.CSS_SELECTOR, ".hit"), [])

    def test_the_round_is_counted_as_the_report_counts_it(self):
        counts = self.report["round"]["counts"]
        tiles = [int(t.text) for t in self.d.find_elements(By.CSS_SELECTOR, "#revision .tile b")]
        self.assertEqual(tiles, [counts[k] for k in ("unchanged", "changed", "added", "moved", "removed")])
        self.assertTrue(all(tiles), "the invented round holds every kind of change")
        self.assertIn("Depuis la révision 1", self.id("h-revision").text)

    def test_every_item_says_what_became_of_it(self):
        said = self.js("return [...document.querySelectorAll('.item')].map(e => [e.dataset.i, e.querySelector('.chg').classList[1]])")
        place = {item["id"]: str(n) for n, item in enumerate(self.report["items"])}
        expected = {place[c["now"]["id"]]: c["change"] for c in self.report["round"]["items"] if "now" in c}
        self.assertEqual(dict(said), expected)
        for gone in [c["before"]["name"] for c in self.report["round"]["items"] if "now" not in c]:
            names = [e.text for e in self.d.find_elements(By.CSS_SELECTOR, ".unit .gone s, #revision .gone s")]
            self.assertEqual(len([n for n in names if n[:20] == gone[:20]]), 2, "in its place, and in the summary")

    def test_requests_are_shown_with_their_answer(self):
        words = [e.text for e in self.d.find_elements(By.CSS_SELECTOR, "#revision .requests .badge")]
        self.assertEqual(words, ["Élément modifié", "Sans réponse"])
        texts = [e.text for e in self.d.find_elements(By.CSS_SELECTOR, "#revision .requests .wording")]
        self.assertIn("<script>", texts[0])
        self.assertNotIn("pwned", self.d.title)

    def test_resolved_and_new_findings_are_told_apart(self):
        resolved = [e.text for e in self.d.find_elements(By.CSS_SELECTOR, "#revision .resolved code")]
        new = [e.text for e in self.d.find_elements(By.CSS_SELECTOR, "#revision > .todo code")]
        weighty = lambda list: {f["code"] for f in self.report["round"][list] if f["severity"] != "notice"}
        self.assertEqual(set(resolved), weighty("resolved"))
        self.assertEqual(set(new), weighty("new"))
        self.assertIn("pdf-truncated", resolved)

    def test_the_changed_filter_works_by_keyboard_and_goes_with_the_status(self):
        self.js("arguments[0].focus()", self.changed())
        self.d.switch_to.active_element.send_keys(Keys.SPACE)
        self.assertEqual(self.changed().get_attribute("aria-pressed"), "true")
        count = int(self.changed().find_element(By.CSS_SELECTOR, ".n").text)
        self.assertEqual(self.shown(), count)
        self.assertTrue(1 < count < self.total())
        others = self.js("return [...document.querySelectorAll('.unit:not([data-d])')].filter(e => e.checkVisibility()).length")
        self.assertEqual(others, 0)
        self.assertEqual(
            self.js("return [...document.querySelectorAll('.unit[data-d]')].filter(u => !u.querySelector('.chg:not(.unchanged), .gone')).length"), 0
        )
        self.d.find_element(By.CSS_SELECTOR, "[data-f=rejected]").click()
        both = self.js("return document.querySelectorAll('.unit.rejected[data-d]').length")
        self.assertEqual(self.shown(), both)
        self.assertEqual(self.changed().get_attribute("aria-pressed"), "true")
        self.d.find_element(By.CSS_SELECTOR, "[data-f=all]").click()
        self.d.switch_to.active_element.send_keys(Keys.TAB)
        self.js("arguments[0].focus()", self.changed())
        self.d.switch_to.active_element.send_keys(Keys.ENTER)
        self.assertEqual(self.changed().get_attribute("aria-pressed"), "false")
        self.assertEqual(self.shown(), self.total())

    def test_columns_have_the_words_of_the_rules_in_their_order(self):
        heads = [e.text for e in self.d.find_elements(By.CSS_SELECTOR, "#versions thead th")]
        self.assertEqual(heads, ["Cellule", "Version", "Type de fin", "date fin", "date fin support"])

    def test_cells_that_were_not_understood_show_what_stands_there(self):
        cells = self.d.find_elements(By.CSS_SELECTOR, "#versions td.unread")
        self.assertIn("fin <b>2023", [c.text for c in cells])
        self.assertIn("(vide)", [c.text for c in cells])
        around = self.d.find_element(By.CSS_SELECTOR, "#versions td.place")
        self.assertNotEqual(cells[0].value_of_css_property("color"), around.value_of_css_property("color"))


if __name__ == "__main__":
    synthetic = "--synthetic" in sys.argv[1:]
    arguments = [a for a in sys.argv[1:] if a != "--synthetic"]
    if len(arguments) != 1:
        sys.exit(__doc__)
    BAG = Path(arguments[0])
    if not (BAG / "index.html").is_file():
        sys.exit(f"{BAG}/index.html: no such page")
    unittest.main(argv=sys.argv[:1], defaultTest="Synthetic" if synthetic else "Page", verbosity=2)
