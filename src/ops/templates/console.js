// The console's only script: refreshes what moves, follows a submission under way, uploads a deposit. What comes from
// outside is only ever set as text.
"use strict";
document.documentElement.classList.add("js-on");
const $ = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// ------------------------------------------------------------------------------------------ what moves on a page
const moving = [...document.querySelectorAll("[data-live]")];
async function refresh() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of moving) {
      const now = page.getElementById(old.id);
      // Nothing is taken from under somebody's fingers, and nothing that stayed the same is read out again.
      if (now && now.innerHTML !== old.innerHTML && !old.contains(document.activeElement)) old.replaceChildren(...now.childNodes);
    }
  } catch { /* The server is away: the next round tells. */ }
}
if (moving.length) setInterval(() => { if (!document.hidden) refresh(); }, 3000);

// ------------------------------------------------------------------------------------------ small things
for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => { if (!confirm(form.dataset.confirm)) event.preventDefault(); });
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText($(button.dataset.copy).innerText);
      button.textContent = button.dataset.done;
    } catch {
      // Without a secure address there is no clipboard: the text is marked instead.
      getSelection().selectAllChildren($(button.dataset.copy));
    }
  });
}

// ------------------------------------------------------------------------------------------ a submission under way
const live = $("live");
if (live) {
  const put = (tag, text, cls) => {
    const element = document.createElement(tag);
    if (cls) element.className = cls;
    element.textContent = text;
    return element;
  };
  const add = (line) => {
    const row = document.createElement("li");
    const badge = put("span", "", "badge " + line.badge.key);
    const icon = put("span", line.badge.icon);
    icon.setAttribute("aria-hidden", "true");
    badge.append(icon, " " + line.badge.word);
    const filed = put("span", "", "ref");
    filed.append(put("bdi", line.filed));
    row.append(badge, " ", filed, " ", put("bdi", line.name));
    if (line.summary) row.append(" ", put("bdi", line.summary + (line.more ? ` (+${line.more})` : ""), "mute"));
    $("items").append(row);
  };
  const progress = (done, total) => {
    $("bar").value = total ? (100 * done) / total : 0;
    $("done").textContent = done;
    if (total) $("total").textContent = total;
  };
  const stage = (word) => { if ($("stage").textContent !== word) $("stage").textContent = word; };
  let source;
  const told = (event) => {
    const said = JSON.parse(event.data);
    if (said.kind === "waiting") stage(live.dataset.waiting);
    if (said.kind === "stage") stage(said.word);
    if (said.kind === "snapshot") {
      $("items").replaceChildren();
      said.job.lines.forEach(add);
      progress(said.job.done, said.job.total);
      stage(said.job.stage || "");
    }
    if (said.kind === "item") {
      add(said.line);
      progress(said.done, said.total);
    }
    if (said.kind === "end") {
      source.close();
      location.reload();
    }
  };
  const follow = () => {
    source = new EventSource(live.dataset.follow);
    source.addEventListener("message", told);
    source.addEventListener("error", () => {
      stage(live.dataset.lost);
      // A stream that ended is asked for again by the browser; one that was refused is not.
      if (source.readyState === EventSource.CLOSED) setTimeout(follow, 10000);
    });
  };
  follow();
}

// ------------------------------------------------------------------------------------------ a deposit
const form = $("deposit");
if (form) {
  const words = (name) => form.dataset["w" + name[0].toUpperCase() + name.slice(1)];
  const drop = $("drop");
  let chosen = new Map();

  const wrong = (text) => {
    $("wrong").textContent = text || "";
    $("wrong").hidden = !text;
  };
  const size = (n) => {
    const [unit, by] = n < 1e6 ? ["k", 1e3] : n < 1e9 ? ["M", 1e6] : ["G", 1e9];
    const figure = (n / by).toLocaleString(document.documentElement.lang, { maximumFractionDigits: 1 });
    return `${figure} ${unit}${document.documentElement.lang === "fr" ? "o" : "B"}`;
  };
  const show = () => {
    const files = [...chosen];
    $("chosen").hidden = !files.length;
    const bytes = files.reduce((sum, [, file]) => sum + file.size, 0);
    $("chosen-words").textContent = `${files.length} ${words("files")}, ${size(bytes)}`;
    $("chosen-list").replaceChildren(...files.slice(0, 500).map(([path]) => {
      const row = document.createElement("li");
      const name = document.createElement("bdi");
      name.textContent = path.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\u061c\ufeff]/g, "\ufffd");
      row.append(name);
      return row;
    }));
  };

  // What describes a deposit stands at its top: a folder around it is taken off.
  const atTop = (files) => {
    const tops = new Set(files.map(([path]) => path.split("/")[0]));
    const [top] = tops;
    const described = ["candidature.toml", "submission.json"].some((name) => files.some(([path]) => path === `${top}/${name}`));
    return tops.size === 1 && described ? files.map(([path, file]) => [path.slice(top.length + 1), file]) : files;
  };
  const take = async (files) => {
    wrong("");
    files = files.filter(([path]) => path);
    if (files.length === 1 && /\.zip$/i.test(files[0][0])) {
      stateWords(words("unpacking"));
      try { files = await unzip(files[0][1]); } catch { wrong(words("zip")); }
      stateWords("");
    }
    for (const [path, file] of atTop(files)) chosen.set(path, file);
    show();
  };
  const stateWords = (text) => {
    $("progress").hidden = !text;
    $("sent-words").textContent = text;
  };

  // ---- from the desktop
  const entries = (reader) => new Promise((done, failed) => reader.readEntries(done, failed));
  const walk = async (entry, into) => {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      into.push([entry.fullPath.replace(/^\//, ""), file]);
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (let part = await entries(reader); part.length; part = await entries(reader)) {
        for (const one of part) await walk(one, into);
      }
    }
  };
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  // A file dropped beside the field must not replace the page.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    // The list is empty after the first pause: everything is taken out at once.
    const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const tops = items.map((item) => (item.webkitGetAsEntry && item.webkitGetAsEntry()) || item.getAsFile());
    const files = [];
    for (const top of tops) {
      if (top instanceof File) files.push([top.name, top]);
      else if (top) await walk(top, files);
    }
    await take(files);
  });
  for (const id of ["pick-folder", "pick-files"]) {
    $(id).addEventListener("change", async (event) => {
      await take([...event.target.files].map((file) => [file.webkitRelativePath || file.name, file]));
      event.target.value = "";
    });
  }
  $("clear").addEventListener("click", () => { chosen = new Map(); show(); wrong(""); $("pick-folder").focus(); });

  // ---- ZIP (APPNOTE 6.3.10): opened here, so that the server opens none. Members are unpacked when they are sent.
  const unzip = async (archive) => {
    const view = async (from, to) => new DataView(await archive.slice(from, to).arrayBuffer());
    const tailAt = Math.max(0, archive.size - 65557);
    const tail = await view(tailAt, archive.size);
    let end = tail.byteLength - 22;
    while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end -= 1;
    if (end < 0) throw new Error("no end of central directory");
    let count = tail.getUint16(end + 10, true);
    let length = tail.getUint32(end + 12, true);
    let start = tail.getUint32(end + 16, true);
    if (count === 0xffff || length === 0xffffffff || start === 0xffffffff) {
      const at = Number(tail.getBigUint64(end - 20 + 8, true));
      const wide = await view(at, at + 56);
      if (wide.getUint32(0, true) !== 0x06064b50) throw new Error("no ZIP64 directory");
      count = Number(wide.getBigUint64(32, true));
      length = Number(wide.getBigUint64(40, true));
      start = Number(wide.getBigUint64(48, true));
    }
    if (count > Number(form.dataset.maxFiles)) throw new Error("too many members");
    const directory = await view(start, start + length);
    const text = (bytes, utf8) => {
      try { return new TextDecoder("utf-8", { fatal: true }).decode(bytes); } catch { return new TextDecoder(utf8 ? "utf-8" : "windows-1252").decode(bytes); }
    };
    const files = [];
    for (let at = 0, n = 0; n < count; n += 1) {
      if (directory.getUint32(at, true) !== 0x02014b50) throw new Error("damaged directory");
      const flags = directory.getUint16(at + 8, true);
      const method = directory.getUint16(at + 10, true);
      let packed = directory.getUint32(at + 20, true);
      let full = directory.getUint32(at + 24, true);
      const lengths = [28, 30, 32].map((offset) => directory.getUint16(at + offset, true));
      let local = directory.getUint32(at + 42, true);
      const bytes = new Uint8Array(directory.buffer, at + 46, lengths[0]);
      const name = text(bytes, Boolean(flags & 0x800)).replaceAll("\\", "/");
      for (let extra = at + 46 + lengths[0], last = extra + lengths[1]; extra + 4 <= last; extra += 4 + directory.getUint16(extra + 2, true)) {
        if (directory.getUint16(extra, true) !== 1) continue;
        let field = extra + 4;
        const wide = () => { field += 8; return Number(directory.getBigUint64(field - 8, true)); };
        if (full === 0xffffffff) full = wide();
        if (packed === 0xffffffff) packed = wide();
        if (local === 0xffffffff) local = wide();
      }
      at += 46 + lengths[0] + lengths[1] + lengths[2];
      if (name.endsWith("/")) continue;
      if (flags & 1 || (method !== 0 && method !== 8)) throw new Error("encrypted, or packed in another way");
      if (name.startsWith("/") || name.split("/").includes("..")) throw new Error("a name leaves the archive");
      files.push([name, { size: full, member: { archive, local, packed, method } }]);
    }
    if (new Set(files.map(([name]) => name)).size !== files.length) throw new Error("two members of one name");
    return files;
  };
  const bytesOf = async (file) => {
    if (!file.member) return file;
    const { archive, local, packed, method } = file.member;
    const head = new DataView(await archive.slice(local, local + 30).arrayBuffer());
    const from = local + 30 + head.getUint16(26, true) + head.getUint16(28, true);
    const part = archive.slice(from, from + packed);
    if (method === 0) return part;
    const reader = part.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
    const pieces = [];
    let size = 0;
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      size += value.length;
      // The directory may lie: what unpacks to more than the limit is given up as soon as it does.
      if (size > Number(form.dataset.maxFile)) { await reader.cancel(); throw new Error("larger than the limit"); }
      pieces.push(value);
    }
    return new Blob(pieces);
  };

  // ---- to the server
  const ask = async (path, options) => {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await fetch(path, options);
      // Slower, as asked.
      if (answer.status === 429 && attempt < 30) { await pause(1000 * Number(answer.headers.get("Retry-After") || 1)); continue; }
      if (answer.ok) return answer;
      let told = {};
      try { told = await answer.json(); } catch { /* not ours */ }
      throw new Error([told.message || words("failed"), told.detail].filter(Boolean).join(" "));
    }
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong("");
    if (!chosen.size) { wrong(words("empty")); return; }
    const large = [...chosen].find(([, file]) => file.size > Number(form.dataset.maxFile));
    if (large) { wrong(`${words("large")} ${large[0]}`); return; }
    if (chosen.size > Number(form.dataset.maxFiles)) { wrong(words("many")); return; }
    const button = $("send");
    button.disabled = true;
    try {
      const { draft } = await (await ask("/deposit", { method: "POST" })).json();
      const todo = [...chosen];
      let sent = 0;
      const total = todo.length;
      const tell = () => { $("sent").value = sent / total; stateWords(`${words("sending")} : ${sent}/${total}`); };
      tell();
      const send = async () => {
        for (let one = todo.shift(); one; one = todo.shift()) {
          const [path, file] = one;
          await ask(`/deposit/${draft}/file?path=${encodeURIComponent(path)}`, { method: "PUT", body: await bytesOf(file) });
          sent += 1;
          tell();
        }
      };
      await Promise.all([send(), send(), send(), send()]);
      stateWords(words("submitting"));
      const fields = new FormData(form);
      const said = { profiles: fields.getAll("profile").join(",") };
      for (const name of ["demarche", "number", "company", "product", "version", "stage", "vague1"]) said[name] = fields.get(name) || "";
      const made = await ask(`/deposit/${draft}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(said) });
      location.assign((await made.json()).location);
    } catch (error) {
      stateWords("");
      wrong(error instanceof TypeError ? words("failed") : error.message);
      button.disabled = false;
    }
  });
}
