// The frame of the page: language, token, navigation.

import { get, post } from "/api.js";
import { button, el, failed, fill, rich } from "/dom.js";
import { bytes, language, load, t } from "/words.js";
import { show as showChat } from "/chat.js";
import { show as showNew } from "/new.js";
import { show as showRun } from "/run.js";
import { show as showRuns } from "/runs.js";

const PAGES = { new: showNew, runs: showRuns, run: showRun, chat: showChat };
const content = document.getElementById("content");
let leave = null;

function kept(name) { try { return localStorage.getItem(name); } catch { return null; } }
function keep(name, value) { try { localStorage.setItem(name, value); } catch { /* private window */ } }

function frame() {
  const other = language() === "zh" ? "en" : "zh";
  const change = document.getElementById("language");
  change.textContent = other === "zh" ? "中文" : "English";
  change.lang = other === "zh" ? "zh-CN" : "en";
  change.onclick = async () => { keep("ferry.language", other); await load(other); frame(); route(); };
  document.getElementById("skip").textContent = t("skip");
  document.getElementById("brand").textContent = t("title");
  const nav = document.getElementById("nav");
  nav.setAttribute("aria-label", t("nav"));
  const here = location.hash.split("/")[1] || "new";
  const entry = (page, text) => {
    const current = here === page || (page === "runs" && here === "run");
    return el("a", { href: `#/${page}`, "aria-current": current ? "page" : null }, text);
  };
  fill(nav, entry("new", t("nav.new")), entry("runs", t("nav.runs")), entry("chat", t("nav.chat")));
}

async function route() {
  frame();
  const [, page = "new", name = ""] = location.hash.split("/");
  const show = PAGES[page] ?? showNew;
  leave?.();
  leave = null;
  fill(content, el("p", { class: "loading" }, t("loading")));
  try {
    const root = el("div", { class: `page ${page}` });
    const left = await show(root, decodeURIComponent(name));
    leave = typeof left === "function" ? left : null;
    fill(content, root);
    document.title = `${root.querySelector("h1")?.textContent ?? ""} · ${t("title")}`;
  } catch (error) {
    fill(content, el("div", { class: "page" }, el("h1", {}, t("trouble")),
      el("p", {}, rich(error.text ?? String(error))), el("p", {}, rich(error.hint ?? "")), button(t("again"), route, "main")));
  }
}

async function machine() {
  try {
    const home = await get("home");
    const place = document.getElementById("machine");
    const { available, memory, disk_free } = home.machine;
    place.textContent = t("machine", { free: bytes(available), all: bytes(memory), disk: bytes(disk_free) });
    place.title = t("machine.why");
  } catch { /* told by whatever the page does */ }
}

function locked() {
  leave?.();
  leave = null;
  const input = el("input", { type: "password", autocomplete: "off", id: "token" });
  const enter = async (event) => {
    event.preventDefault();
    try { await post("enter", { token: input.value.trim() }); route(); machine(); } catch (error) { failed(error); }
  };
  fill(content, el("form", { class: "card token", onsubmit: enter },
    el("h1", {}, t("locked")), el("p", {}, rich(t("locked.why"))),
    el("label", { for: "token" }, t("locked.token")), input,
    el("button", { type: "submit", class: "main" }, t("locked.enter"))));
  input.focus();
}

async function begin() {
  await load(kept("ferry.language") ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));
  const token = location.hash.match(/^#token=([\w-]+)/)?.[1];
  if (token) {
    history.replaceState(null, "", "/");
    try { await post("enter", { token }); } catch (error) { failed(error); }
  }
  window.addEventListener("locked", locked);
  window.addEventListener("hashchange", () => { route(); content.focus({ preventScroll: true }); scrollTo(0, 0); });
  document.getElementById("skip").onclick = (event) => { event.preventDefault(); content.focus(); };
  route();
  machine();
  setInterval(() => { if (!document.hidden) machine(); }, 15000);
}

begin();
