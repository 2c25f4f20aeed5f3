// The portal's script: plain, no framework. It asks /api/v1 for what a button or a form says, shows what went wrong where it
// happened, and fetches a page's parts again when the coordinator says that what they are about has changed.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("with-script");
  const one = (what, within = document) => within.querySelector(what);
  const all = (what, within = document) => [...within.querySelectorAll(what)];
  const cookie = (name, value) => {
    const secure = location.protocol === "https:" ? ";secure" : "";
    document.cookie = `${name}=${encodeURIComponent(value)};path=/;max-age=31536000;samesite=lax${secure}`;
  };

  // The time zone: pages are written in it from the next one on.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const zone_is_new = root.dataset.zone !== zone && !document.cookie.includes(`lull_zone=${encodeURIComponent(zone)}`);
  if (zone_is_new) cookie("lull_zone", zone);

  // What is asked of the interface.
  async function ask(method, path, body) {
    const headers = { accept: "application/json" };
    if (body !== undefined) headers["content-type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" });
    } catch {
      throw { message: "the coordinator cannot be reached", hint: "try again in a moment" };
    }
    const text = await answer.text();
    let value = {};
    try { value = text ? JSON.parse(text) : {}; } catch { value = { text }; }
    if (answer.ok) return value;
    if (answer.status === 401 && one(".bar nav")) throw { ...value.error, signin: true };
    throw value.error || { message: `the coordinator answered ${answer.status}`, hint: "try again in a moment" };
  }

  function tell(where, message, hint, fine, signin) {
    let line = where.nextElementSibling;
    if (!line || !line.classList.contains("told")) {
      line = document.createElement("p");
      where.after(line);
    }
    line.className = fine ? "told fine" : "told";
    line.setAttribute("role", fine ? "status" : "alert");
    line.textContent = message;
    if (hint) {
      const small = document.createElement("small");
      small.textContent = hint;
      line.append(small);
    }
    if (signin) {
      const link = document.createElement("a");
      link.href = `/signin?next=${encodeURIComponent(location.pathname + location.search)}${location.hash}`;
      link.textContent = "Sign in again";
      line.append(link);
    }
    return line;
  }

  function sure(words, grave) {
    const dialog = one("#ask");
    one("#ask-words").textContent = words;
    one("#ask-yes").className = grave ? "grave" : "main";
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
  }

  // A form's fields as the body that the interface takes: nothing of what is empty, numbers and lists as such.
  function fields(form) {
    const body = {};
    for (const field of all("[name]", form)) {
      if (field.type === "checkbox" ? !field.checked : field.value.trim() === "") continue;
      let value = field.type === "checkbox" ? true : field.value;
      if (field.dataset.as === "number") value = Number(value);
      if (field.dataset.as === "list") value = value.split(/\s+/).filter(Boolean);
      if (field.dataset.as === "seconds") value = Number(value) * Number(field.dataset.unit);
      body[field.name] = value;
    }
    return body;
  }

  // A setting's value: a number or yes and no as such, all else as text.
  const typed = (text) => (/^-?\d+$/.test(text.trim()) ? Number(text) : { true: true, false: false }[text.trim()] ?? text.trim());

  const shapes = {
    // One setting, for all machines or for those that meet the conditions.
    policy: ({ key, value = "", conditions = [], reset }) => ({ conditions, set: reset ? {} : { [key]: typed(value) }, reset: reset ? [key] : [] }),
  };

  async function act(what, body, submitter) {
    const { ask: words, then, done, show, shape } = what.dataset;
    if (words && !(await sure(words, what.classList.contains("grave")))) return;
    const buttons = what.matches("button") ? [what] : all("button", what);
    for (const button of buttons) button.disabled = true;
    const where = what.closest(".row, .fields") && what.matches("button") ? what.closest(".row, .fields") : what;
    try {
      const given = shape ? shapes[shape](body) : body;
      // What a path names in braces is a field of the form.
      const path = what.dataset.path.replace(/\{(\w+)\}/g, (_, name) => { const value = given[name]; delete given[name]; return encodeURIComponent(value); });
      const preview = submitter && submitter.dataset.preview;
      const value = preview ? await ask("POST", preview, given) : await ask(what.dataset.method, path, given);
      if (preview) {
        const machines = value.machines === 1 ? "1 machine" : `${value.machines} machines`;
        const changes = value.changes.length ? value.changes.join("; ") : "nothing would change";
        tell(where, `${changes} (this concerns ${machines})`, (value.warnings || [])[0], true);
      } else if (show) {
        const line = tell(where, done || "done", undefined, true);
        const shown = document.createElement("pre");
        shown.textContent = value[show];
        shown.tabIndex = 0;
        line.append(shown);
        if (what.matches("form")) what.reset();
        await refresh(true);
      } else if (then) {
        // Whoever was on his way to a place within a page is still.
        location.assign(then + (what.id === "signin" ? location.hash : ""));
        return;
      } else {
        const count = value.affected > 0 ? ` (${value.affected})` : "";
        tell(where, (value.warnings && value.warnings[0]) || (done || "done") + count, undefined, true);
        await refresh(true);
      }
    } catch (error) {
      tell(where, error.message || String(error), error.hint, false, error.signin);
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.does");
    if (button) act(button, button.dataset.body === undefined ? undefined : JSON.parse(button.dataset.body));
    if (event.target.closest("#show-keys")) one("#keys").showModal();
    const menu = one(".menu[open]");
    if (menu && !menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form.does")) return;
    event.preventDefault();
    act(form, fields(form), event.submitter);
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "theme") {
      cookie("lull_theme", event.target.value);
      if (event.target.value) root.dataset.theme = event.target.value;
      else delete root.dataset.theme;
    }
    if (event.target.matches("select.go")) event.target.form.requestSubmit();
  });

  // Parts of the page that follow what happens: each has an id, and is replaced when it is written differently.
  const written = new Map();
  const LEAST_MS = 2000;
  let fetched = 0, due = 0, fetching = false, wanted = false, spoken = 0;

  function remember() {
    for (const part of all("[data-live]")) written.set(part.id, part.outerHTML);
  }

  function replace(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    // A part that there was nothing for is gone, or there is something for it now: it goes after the one before it.
    if (one("[data-live]", fresh)) for (const part of all("[data-live]")) if (!fresh.getElementById(part.id)) part.remove();
    for (const part of all("section[id^=r-]", fresh)) {
      const old = document.getElementById(part.id);
      if (!old) {
        const before = part.previousElementSibling && document.getElementById(part.previousElementSibling.id || one("[id]", part.previousElementSibling).id);
        const place = before && before.closest("main > *");
        if (place) { place.after(document.importNode(part, true)); written.set(part.id, part.outerHTML); }
        continue;
      }
      if (!old.matches("[data-live]")) continue;
      const text = part.outerHTML;
      if (written.get(part.id) === text) continue;
      const active = document.activeElement;
      const inside = old.contains(active);
      // Nobody's typing, choice or selection is taken away.
      if (inside && active.matches("input, select, textarea")) continue;
      const selection = document.getSelection();
      if (selection && !selection.isCollapsed && old.contains(selection.anchorNode)) continue;
      const open = all("details[open][id]", old).map((details) => details.id);
      const key = inside ? active.id || active.getAttribute("href") || active.dataset.path : null;
      const scrolled = all(".scroll", old).map((box) => box.scrollLeft);
      const told = all(".told", old);
      const next = document.importNode(part, true);
      old.replaceWith(next);
      written.set(part.id, text);
      for (const id of open) { const details = document.getElementById(id); if (details) details.open = true; }
      all(".scroll", next).forEach((box, at) => { box.scrollLeft = scrolled[at] || 0; });
      if (told.length) next.append(...told);
      if (key) {
        const again = all("a, button, [tabindex]", next).find((it) => it.id === key || it.getAttribute("href") === key || it.dataset.path === key);
        if (again) again.focus({ preventScroll: true });
      }
      const say = one("[data-say]", next);
      if (say && Date.now() - spoken > 30000) { spoken = Date.now(); one("#said").textContent = say.textContent; }
    }
    follow_all();
  }

  async function refresh(now) {
    if (fetching) { wanted = wanted || now; return; }
    const wait = fetched + LEAST_MS - Date.now();
    if (!now && wait > 0) {
      if (!due) due = setTimeout(() => { due = 0; refresh(true); }, wait);
      return;
    }
    if (document.hidden || all("dialog[open]").length) { due = due || setTimeout(() => { due = 0; refresh(); }, LEAST_MS); return; }
    fetching = true;
    fetched = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { "lull-part": "1" }, credentials: "same-origin" });
      if (answer.status === 401) return location.reload();
      if (answer.ok) replace(await answer.text());
    } catch { /* The stream says when the coordinator is back. */ } finally { fetching = false; }
    // Somebody did something while the page was on its way: that is not in it.
    if (wanted) { wanted = false; refresh(true); }
  }

  // The stream is open only while the page is seen: a browser has few connections for each server.
  let stream = null, again = false, lost = 0;
  function listen() {
    const topics = new Set((one("#main").dataset.topics || "").split(" ").filter(Boolean));
    if (stream || !topics.size || !one(".bar nav")) return;
    stream = new EventSource("/live");
    stream.addEventListener("hello", () => {
      clearTimeout(lost);
      one("#stale").hidden = true;
      if (again) refresh();
      again = true;
    });
    stream.addEventListener("news", (event) => {
      const news = JSON.parse(event.data);
      if (news.some((topic) => topic === "all" || topics.has(topic))) refresh();
    });
    stream.addEventListener("error", () => {
      clearTimeout(lost);
      lost = setTimeout(() => { one("#stale").hidden = false; }, 3000);
      if (stream.readyState !== EventSource.CLOSED) return;
      stream = null;
      setTimeout(() => { if (!document.hidden) { listen(); refresh(); } }, 10000);
    });
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return listen();
    if (stream) stream.close();
    stream = null;
  });
  addEventListener("pagehide", () => { if (stream) stream.close(); stream = null; });
  addEventListener("pageshow", (event) => { if (event.persisted) { listen(); refresh(true); } });

  // A log that grows: part by part, each where the one before ended.
  const LOG_CHARS_MAX = 2000000;
  async function follow(log) {
    let from = Number(log.dataset.from), shown = log.textContent.length;
    while (log.isConnected) {
      if (document.hidden) { await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })); continue; }
      let part;
      try { part = await ask("GET", `${log.dataset.path}?attempt=${log.dataset.attempt}&from=${from}&wait_ms=15000`); }
      catch { await new Promise((done) => setTimeout(done, 5000)); continue; }
      const at_end = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      if (part.dropped_bytes) log.append(`\n[${part.dropped_bytes} bytes are left out here]\n`);
      log.append(part.text);
      shown += part.text.length;
      from = part.next;
      if (at_end) log.scrollTop = log.scrollHeight;
      if (!part.live) return;
      if (shown > LOG_CHARS_MAX) return void log.append("\n[this page shows no more; download the log]");
    }
  }

  function follow_all() {
    for (const log of all("pre[data-follow]")) {
      delete log.dataset.follow;
      follow(log);
    }
  }

  // Keys: one, or g and another.
  const places = { t: "/", j: "/jobs", a: "/agents", f: "/functions", p: "/policy", n: "/network" };
  let after_g = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea") || one("dialog[open]")) return;
    const went = Date.now() - after_g < 1500 && places[event.key];
    after_g = event.key === "g" ? Date.now() : 0;
    const link = went ? one(`.bar nav a[href="${went}"]`) : { n: one(".pages [rel=next]"), p: one(".pages [rel=prev]") }[event.key];
    if (link) return location.assign(link.href);
    if (event.key === "?") one("#keys").showModal();
    if (event.key === "/" && one("#find")) { event.preventDefault(); one("#find").focus(); }
    if (event.key === "Escape" && one(".menu[open]")) one(".menu").open = false;
  });

  addEventListener("DOMContentLoaded", () => {
    const theme = one("#theme");
    if (theme) theme.value = root.dataset.theme || "";
    remember();
    listen();
    if (zone_is_new && one(".bar nav")) refresh(true);
    follow_all();
  });
})();
