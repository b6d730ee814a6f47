"use strict";
(() => {
  const root = document.documentElement;
  const by = (id) => document.getElementById(id);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  root.classList.add("js");

  // Settings survive a reload where the browser lets a local page keep anything at all.
  const keep = (key, value) => { try { localStorage.setItem("greffier." + key, value); } catch { /* not kept */ } };
  const kept = (key) => { try { return localStorage.getItem("greffier." + key); } catch { return null; } };

  // ---- language
  let lang = "fr";
  const speak = (to) => {
    lang = to;
    root.lang = to;
    for (const code of ["fr", "en"]) by("lang-" + code).setAttribute("aria-pressed", String(code === to));
    for (const el of all("[data-l]")) {
      if (el.dataset.l === "text") el.textContent = el.dataset[to];
      else el.setAttribute(el.dataset.l, el.dataset[to]);
    }
    count();
  };

  // ---- theme
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const paint = () => {
    root.toggleAttribute("data-dark", isDark());
    by("theme").setAttribute("aria-pressed", String(isDark()));
  };
  by("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    keep("theme", root.dataset.theme);
    paint();
  });
  system.addEventListener("change", paint);

  // ---- search and filters
  const fold = (s) => s.normalize("NFD").replace(/\p{M}/gu, "").replace(/[’ʼ]/g, "'").toLowerCase();
  let texts = {};
  try { texts = JSON.parse(by("texts").textContent); } catch { /* the page works without */ }

  const units = all(".unit").map((el) => {
    const scenario = el.closest(".scn");
    const requirement = el.closest(".exi");
    const head = scenario.querySelector(".s-head");
    const title = requirement.querySelector(":scope > h4");
    return {
      el, scenario, requirement,
      chapter: el.closest(".chapter"),
      status: el.dataset.s,
      changed: "d" in el.dataset,
      own: el.textContent + " " + (head ? head.textContent : "") + " " + (title ? title.textContent : ""),
      items: all(".item", el).map((item) => ({ el: item, text: texts[item.dataset.i] || "" })),
      folded: null,
    };
  });
  const prepare = () => {
    for (const unit of units) {
      if (unit.folded !== null) return;
      unit.folded = fold(unit.own);
      for (const item of unit.items) item.folded = fold(item.text);
    }
  };

  const state = { status: "all", changed: false, chapter: "", words: [] };
  let shown = units.length;

  const snippet = (item, word) => {
    const at = item.folded.indexOf(word);
    // Folding keeps the length of French and English text; where it does not, the folded text is shown.
    const source = item.folded.length === item.text.length ? item.text : item.folded;
    const from = Math.max(0, at - 60);
    const p = document.createElement("p");
    p.className = "hit";
    const bdi = document.createElement("bdi");
    const mark = document.createElement("mark");
    mark.textContent = source.slice(at, at + word.length);
    bdi.append((from ? "…" : "") + source.slice(from, at), mark, source.slice(at + word.length, at + word.length + 80) + "…");
    p.append(bdi);
    item.el.append(p);
  };

  const apply = () => {
    for (const hit of all(".hit")) hit.remove();
    if (state.words.length) prepare();
    shown = 0;
    const open = new Set();
    for (const unit of units) {
      let visible = (state.status === "all" || unit.status === state.status) && (!state.changed || unit.changed) && (state.chapter === "" || unit.chapter.dataset.c === state.chapter);
      for (const word of visible ? state.words : []) {
        if (unit.folded.includes(word)) continue;
        const item = unit.items.find((i) => i.folded.includes(word));
        if (item) snippet(item, word);
        else { visible = false; break; }
      }
      unit.el.hidden = !visible;
      if (visible) {
        shown += 1;
        open.add(unit.scenario).add(unit.requirement).add(unit.chapter);
      }
    }
    for (const el of all(".scn, .exi, .chapter")) el.hidden = !open.has(el);
    by("none").hidden = shown > 0;
    count();
  };

  const count = () => {
    const total = units.length;
    by("shown").textContent = lang === "fr"
      ? (shown === total ? `${total} preuves et pièces` : `${shown} sur ${total}`)
      : (shown === total ? `${total} proofs and documents` : `${shown} of ${total}`);
  };

  const chips = all(".chips [data-f]");
  const choose = (status) => {
    state.status = status;
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.f === status));
  };
  for (const chip of chips) {
    if (chip.querySelector(".n").textContent === "0") chip.dataset.empty = "";
    chip.addEventListener("click", () => { choose(chip.dataset.f); apply(); });
  }
  // What changed since the revision before: only there in a second round; goes together with the status.
  const changed = by("changed");
  const onlyChanged = (on) => {
    state.changed = on;
    if (changed) changed.setAttribute("aria-pressed", String(on));
  };
  if (changed) changed.addEventListener("click", () => { onlyChanged(!state.changed); apply(); });

  let timer = 0;
  // Whatever asked first, a pending look has nothing left to do: twice would draw the marks anew under the reader.
  const look = () => {
    clearTimeout(timer);
    state.words = fold(by("q").value).split(/\s+/).filter((w) => w !== "");
    apply();
  };
  by("q").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(look, 120); });
  by("q").addEventListener("keydown", (event) => { if (event.key === "Escape") { by("q").value = ""; look(); } });
  by("chapter").addEventListener("change", () => { state.chapter = by("chapter").value; apply(); });
  by("tools").addEventListener("submit", (event) => { event.preventDefault(); look(); });
  const reset = () => {
    by("q").value = "";
    by("chapter").value = "";
    state.chapter = "";
    state.words = [];
    choose("all");
    onlyChanged(false);
    apply();
  };
  by("reset").addEventListener("click", () => { reset(); by("q").focus(); });

  // A link to something that a filter hides shows it.
  const reveal = () => {
    const target = location.hash.length > 1 && by(location.hash.slice(1));
    if (target && target.closest("[hidden]")) { reset(); target.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);

  // ---- from issue to issue: the buttons keep the focus, so that pressing again goes on; what is reached is
  // outlined, and announced
  let reached = null;
  const step = (forward) => {
    const issues = units.filter((u) => !u.el.hidden && !["accepted", "optional"].includes(u.status)).map((u) => u.el);
    if (!issues.length) return;
    const side = forward ? Node.DOCUMENT_POSITION_FOLLOWING : Node.DOCUMENT_POSITION_PRECEDING;
    const beyond = issues.filter((el) => reached && reached.compareDocumentPosition(el) & side);
    const target = forward ? (beyond[0] || issues[0]) : (beyond[beyond.length - 1] || issues[issues.length - 1]);
    if (reached) reached.classList.remove("reached");
    reached = target;
    reached.classList.add("reached");
    reached.scrollIntoView({ block: "start" });
    const name = reached.querySelector("h4, h5").cloneNode(true);
    for (const other of all(".l", name)) if (other.lang !== lang) other.remove();
    by("shown").textContent = `${issues.indexOf(target) + 1}/${issues.length} : ${name.textContent.trim().slice(0, 80)}`;
  };
  by("next").addEventListener("click", () => step(true));
  by("prev").addEventListener("click", () => step(false));

  // What is reached must not end up under the toolbar, whose height depends on the width and the language.
  new ResizeObserver(() => root.style.setProperty("--tools", by("tools").offsetHeight + "px")).observe(by("tools"));

  const folds = all("main details");
  by("unfold").addEventListener("click", () => {
    const open = by("unfold").getAttribute("aria-pressed") !== "true";
    by("unfold").setAttribute("aria-pressed", String(open));
    for (const el of folds) el.open = open;
  });

  // ---- print: everything unfolded, then as it was
  let before = [];
  addEventListener("beforeprint", () => { before = folds.filter((el) => !el.open); for (const el of before) el.open = true; });
  addEventListener("afterprint", () => { for (const el of before) el.open = false; });
  by("print").addEventListener("click", () => print());

  by("lang-fr").addEventListener("click", () => { speak("fr"); keep("lang", "fr"); });
  by("lang-en").addEventListener("click", () => { speak("en"); keep("lang", "en"); });
  const theme = kept("theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  paint();
  speak(kept("lang") === "en" ? "en" : "fr");
  reveal();
})();
