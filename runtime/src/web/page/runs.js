// All runs, and the curves of several in one figure.

import { follow, get, part, post } from "/api.js";
import { ask, button, el, failed, fill } from "/dom.js";
import { chart, smoothed } from "/chart.js";
import { figure, moment, t } from "/words.js";

// A browser has six connections to one server.
const MOST = 4;

export function badge(state) {
  return el("span", { class: `badge ${state}` }, t(`state.${state}`));
}

// Whether a process is at work.
export function works(run) {
  return ["starting", "running", "ending"].includes(run.state);
}

export async function show(root) {
  const chosen = new Set();
  let stop = [];
  const place = el("div", {});
  const curves = chart({ title: t("runs.compare"), empty: t("runs.compare-none") });
  const figurePlace = el("section", { class: "card", hidden: true }, curves.box);

  async function refresh() {
    const runs = await get("runs");
    if (runs.length === 0) {
      fill(place, el("div", { class: "empty card" }, el("p", {}, t("runs.none")), el("a", { class: "button main", href: "#/new" }, t("runs.first"))));
      return;
    }
    const rows = runs.map((run) => {
      const box = el("input", { type: "checkbox", id: `compare-${run.name}`, checked: chosen.has(run.name), disabled: !chosen.has(run.name) && chosen.size >= MOST, onchange: async () => {
        if (box.checked) chosen.add(run.name); else chosen.delete(run.name);
        compare();
        await refresh();
        document.getElementById(box.id)?.focus();
      } });
      box.setAttribute("aria-label", t("runs.compare-this", { name: run.name }));
      const steps = run.total_steps ? `${run.last?.current_steps ?? 0} / ${run.total_steps}` : "–";
      return el("tr", {}, el("td", {}, box), el("td", {}, el("a", { href: `#/run/${part(run.name)}` }, run.name)), el("td", {}, badge(run.state)),
        el("td", { class: "number-cell" }, steps), el("td", { class: "number-cell" }, figure(run.last?.loss)), el("td", {}, moment(run.started)),
        el("td", { class: "end" }, button(t("run.delete"), () => remove(run.name), works(run) ? "quiet hidden-button" : "quiet")));
    });
    const heads = [t("runs.compare"), t("runs.name"), t("runs.state"), t("runs.steps"), t("runs.loss"), t("runs.started"), ""];
    fill(place, el("div", { class: "scroll card" }, el("table", {}, el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, rows))));
  }

  async function remove(name) {
    if (!(await ask(t("run.delete-ask", { name }), t("run.delete-why", { name }), t("run.delete"), t("cancel"), name))) return;
    try {
      await post(`runs/${part(name)}/delete`, { name });
      chosen.delete(name);
      await refresh();
      compare();
    } catch (error) { failed(error); }
  }

  function compare() {
    for (const end of stop) end();
    stop = [];
    figurePlace.hidden = chosen.size === 0;
    const all = [...chosen].map((name, at) => ({ name, kind: `series-${at}`, points: [] }));
    const draw = () => curves.draw(all.flatMap((line) => [
      { ...line, kind: `${line.kind} faint`, quiet: true }, { ...line, points: smoothed(line.points, 0.8) }]));
    for (const line of all) {
      stop.push(follow(line.name, {
        again: () => { line.points = []; },
        log: (lines) => {
          for (const entry of lines) if (typeof entry.loss === "number") line.points.push([entry.current_steps, entry.loss]);
          draw();
        },
      }));
    }
    draw();
  }

  root.append(el("div", { class: "row head" }, el("h1", {}, t("runs.title")), el("a", { class: "button", href: "#/new" }, t("nav.new"))), place, figurePlace);
  await refresh();
  const timer = setInterval(() => { if (!document.hidden && !root.contains(document.activeElement)) refresh().catch(() => {}); }, 3000);
  return () => { clearInterval(timer); for (const end of stop) end(); };
}
