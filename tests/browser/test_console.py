#!/usr/bin/env python3
"""The console in a real browser: deposit by drop, live view, report, search, requeue, language, keyboard, contrast,
narrow screens, and hostile names that stay inert.

    python3 tests/browser/test_console.py http://127.0.0.1:PORT FOLDER GREFFIER

FOLDER holds the server's greffier.toml; GREFFIER is the binary. `tests/it/ops.rs` starts both.
"""

import base64
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.support.ui import WebDriverWait

from test_index import CONTRAST, InBrowser

URL = ""
FOLDER = Path()
PROGRAM = ""
HOSTILE = '<img src=x onerror="document.title=666">\u202egnp.pdf'
COMPANY = "<script>document.title=666</script>"

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], arguments[1]));
document.getElementById('drop').dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data }));
"""


def archive():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("dossier/candidature.toml", '[candidature]\nnumber = "ABCDEFGHIJ"\nproduct = "Essai"\nprofiles = []\n')
        z.writestr("dossier/INS.02/INS.02.01.01/" + HOSTILE, b"not a PDF at all\n" * 50)
        for n in range(30):
            z.writestr(f"dossier/INS.02/INS.02.01.01/capture-{n}.txt", f"capture {n}\n" * 20)
    return base64.b64encode(made.getvalue()).decode()


class Console(InBrowser):
    def setUp(self):
        self.size(1280, 1000)
        self.d.delete_all_cookies()
        self.go("/")
        self.d.get_log("browser")

    def tearDown(self):
        told = [entry for entry in self.d.get_log("browser") if entry["level"] == "SEVERE"]
        self.assertEqual(told, [])
        shots = os.environ.get("GREFFIER_SHOTS")
        if shots:
            self.d.save_screenshot(f"{shots}/{self.id().rsplit('.', 1)[-1]}.png")

    # -- small words
    def go(self, path):
        self.d.get(URL + path)

    def css(self, selector):
        return self.d.find_element(By.CSS_SELECTOR, selector)

    def text(self):
        return self.css("body").text

    def until(self, condition, seconds=300):
        # What is looked at may be replaced meanwhile by the page that comes.
        wait = WebDriverWait(self.d, seconds, poll_frequency=0.1, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda _: condition())

    def size(self, width, height, dark=False):
        self.d.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.d.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})

    def deposit(self):
        """Drops the archive; gives the path of the submission's page."""
        self.go("/deposit")
        self.d.execute_script(DROP, archive(), "dossier.zip")
        self.until(lambda: "32 fichiers" in self.css("#chosen").text)
        self.css("#company").send_keys(COMPANY)
        self.css("#send").click()
        self.until(lambda: "/submissions/" in self.d.current_url)
        return self.d.current_url[len(URL):]

    def ended(self, path):
        self.until(lambda: self.d.find_elements(By.CSS_SELECTOR, f"a[href='{path}/report']"))

    # -- what people do
    def test_a_dropped_archive_is_checked_before_ones_eyes(self):
        path = self.deposit()
        self.assertIn("ABCDEFGHIJ", self.css("h1").text)
        # The page goes from live to ended by itself.
        self.ended(path)
        self.assertIn("Rejeté", self.css(".banner").text)
        self.assertIn(COMPANY, self.text())
        self.assertNotIn("666", self.d.title)
        self.css(f"a[href='{path}/report']").click()
        self.until(lambda: self.d.current_url.endswith("/report"))
        self.assertIn("Essai", self.css("h1").text)
        # The report is a stranger here: an origin of its own, so no cookie and no request to the console.
        self.assertEqual(self.d.execute_script("return self.origin"), "null")
        self.assertTrue(self.d.execute_script("return document.documentElement.classList.contains('js')"), "its own script runs")

    def test_items_appear_as_they_end(self):
        path = self.deposit()
        # From another page: that of the submission loads itself again at the end, and what runs there ends with it.
        self.go("/deposit")
        # Everything that was told of the job is told again to whoever comes while it is under way; afterwards its end.
        told = self.d.execute_async_script(
            """
            const done = arguments[1], kinds = [];
            const source = new EventSource(arguments[0] + '/events');
            source.onmessage = (event) => {
              const said = JSON.parse(event.data);
              kinds.push(said.kind);
              if (said.kind === 'end') { source.close(); done(kinds); }
            };
            """,
            path,
        )
        self.assertEqual(told[-1], "end", told)
        self.go(path)
        self.ended(path)

    def test_submissions_are_found_and_hostile_words_stay_words(self):
        path = self.deposit()
        self.ended(path)
        self.go("/submissions")
        field = self.css("#q")
        field.send_keys("abcdefghij <script>", Keys.ENTER)
        self.until(lambda: "q=" in self.d.current_url)

        def found():
            # The list is looked at again after two seconds.
            self.d.refresh()
            return self.d.find_elements(By.CSS_SELECTOR, f"a[href='{path}']")

        self.until(found)
        self.assertEqual(self.css("#q").get_attribute("value"), "abcdefghij <script>")
        self.assertEqual(self.d.find_elements(By.CSS_SELECTOR, "main script, main img"), [])
        self.go("/submissions?state=accepted&q=nobody")
        self.assertIn("Aucun dépôt ne correspond", self.text())

    def test_what_is_parked_is_requeued(self):
        with tempfile.TemporaryDirectory() as other:
            rules = Path(other) / "rules"
            shutil.copytree("pipelines", rules)
            # Rules name their catalogue beside them.
            shutil.copytree("fixtures/catalogue", Path(other) / "fixtures/catalogue")
            known = rules / "lgc-vague-2.toml"
            (rules / "inconnue.toml").write_text(known.read_text().replace('id = "lgc-vague-2"', 'id = "inconnue"', 1))
            known.unlink()
            folder = Path(other) / "depot"
            (folder / "INS.02.01.01").mkdir(parents=True)
            (folder / "candidature.toml").write_text('demarche = "inconnue"\n[candidature]\nnumber = "ZZZZZZZZZZ"\n')
            (folder / "INS.02.01.01" / "a.txt").write_text("a")
            subprocess.run(
                [PROGRAM, "--config", FOLDER / "greffier.toml", "submit", folder, "--no-wait"],
                check=True,
                env={**os.environ, "GREFFIER_PIPELINES__FOLDERS": f'["{rules}"]'},
            )

        def parked():
            self.go("/parked")
            return "JOB-DEMARCHE-UNKNOWN" in self.text()

        self.until(parked)
        button = self.css(".card button")
        button.send_keys(Keys.ENTER)
        self.until(lambda: "1 remis en file" in self.text())
        # The cause is still there: it comes back, and nothing is lost.
        self.until(parked)

    def test_the_language_is_chosen_and_kept(self):
        self.assertEqual(self.css("html").get_attribute("lang"), "fr")
        self.go("/submissions?q=a")
        self.css("a[hreflang=en]").click()
        self.until(lambda: self.css("html").get_attribute("lang") == "en")
        self.assertTrue(self.d.current_url.endswith("/submissions?q=a"), self.d.current_url)
        self.go("/deposit")
        self.assertIn("Drop a folder", self.text())

    def test_everything_is_reached_by_keyboard(self):
        self.go("/deposit")
        reached = set()
        for _ in range(60):
            ActionChains(self.d).send_keys(Keys.TAB).perform()
            reached.add(self.d.execute_script("const e = document.activeElement; return e.id || e.getAttribute('href') || e.name || e.localName"))
        for wanted in ["#main", "/submissions", "/parked", "pick-folder", "pick-files", "number", "stage", "send"]:
            self.assertIn(wanted, reached)

    def test_words_stand_out_and_nothing_overflows(self):
        path = self.deposit()
        self.ended(path)
        for page in ["/", "/submissions", path, "/parked", "/deposit", "/nothing-here"]:
            for dark in [False, True]:
                self.size(1280, 1000, dark)
                self.go(page)
                self.assertEqual(self.d.execute_script(CONTRAST), [], f"{page} dark={dark}")
            self.size(400, 800)
            self.go(page)
            wide = self.d.execute_script("return document.documentElement.scrollWidth")
            self.assertLessEqual(wide, 400, page)
            ids = self.d.execute_script("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
            self.assertEqual(len(ids), len(set(ids)), page)
            unnamed = self.d.execute_script(
                "return [...document.querySelectorAll('input:not([type=hidden]),select')].filter((e) => !e.labels.length).map((e) => e.id)"
            )
            self.assertEqual(unnamed, [], page)
        # A page that is not there is told as an error by the browser as well.
        self.d.get_log("browser")


if __name__ == "__main__":
    URL, FOLDER, PROGRAM = sys.argv[1].rstrip("/"), Path(sys.argv[2]), sys.argv[3]
    os.chdir(Path(__file__).resolve().parents[2])
    unittest.main(argv=sys.argv[:1], verbosity=2)
