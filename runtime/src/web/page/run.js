// One run: how it goes, what it said, what it left.

import { follow, get, part, post } from "/api.js";
import { ask, button, el, failed, fill, notice, problem, rich } from "/dom.js";
import { chart, smoothed } from "/chart.js";
import { exportsOf } from "/exports.js";
import { badge, works as worksNow } from "/runs.js";
import { bytes, figure, moment, t, why } from "/words.js";

const LINES = 200;

export async function show(root, name) {
  let detail = await get(`runs/${part(name)}`);
  let state = detail;
  let losses = [];
  let evals = [];
  let rates = [];
  let latest = {};
  let speed = null;
  let busy = null;

  const head = el("div", { class: "run-head" });
  const said = el("div", { class: "said", role: "status" });
  const tiles = el("div", { class: "tiles" });
  const log = el("ol", { class: "log", tabIndex: 0, "aria-label": t("run.log") });
  const lossChart = chart({ title: t("run.loss"), height: 300 });
  const rateChart = chart({ title: t("run.rate"), height: 170 });
  const normChart = chart({ title: t("run.norm"), height: 170, empty: t("run.norm-later") });
  const smooth = el("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: 0.8, id: "smooth", oninput: draw });
  const below = el("div", {});

  function draw() {
    const weight = Number(smooth.value);
    lossChart.draw([
      { name: t("run.loss"), kind: "raw", points: losses, quiet: weight > 0 },
      { name: t("run.loss-smooth"), kind: "main", points: weight > 0 ? smoothed(losses, weight) : [] },
      { name: t("run.eval-loss"), kind: "eval", points: evals, dots: true }]);
    rateChart.draw([{ name: t("run.rate"), kind: "main", points: rates }]);
  }

  function header() {
    const works = worksNow(state);
    const total = state.total_steps || latest.total_steps || 0;
    const done = works || state.state !== "done" ? latest.current_steps ?? state.last?.current_steps ?? 0 : total;
    const bar = el("progress", { max: Math.max(1, total), value: done });
    bar.setAttribute("aria-label", t("run.progress", { done, total }));
    const actions = [];
    if (works) {
      const stop = button(state.asked_to_stop ? t("run.stopping") : t("run.stop"), act("stop"), "danger");
      stop.disabled = state.state !== "running";
      stop.title = t("run.stop-why");
      actions.push(stop);
    } else if (detail.job) {
      if (state.state !== "done") actions.push(button(t("run.resume"), act("resume"), "main"));
      if (detail.adapter || detail.whole) actions.push(el("a", { class: "button main", href: `#/chat/${part(name)}` }, t("run.chat")));
    }
    if (!works) actions.push(button(t("run.delete"), remove, "quiet"));
    fill(head, el("div", { class: "row head" }, el("h1", {}, name), badge(state.state)),
      el("p", { class: "facts" }, [detail.model?.split("/").slice(-2).join("/"), detail.dataset, detail.method?.toUpperCase(), moment(state.started)].filter(Boolean).join(" · ")),
      el("div", { class: "row" }, bar, el("span", { class: "number-cell" }, `${done} / ${total || "–"}`), el("span", { class: "grow" }),
        works && latest.remaining_time ? el("span", {}, t("run.remaining", { time: latest.remaining_time })) : null),
      el("div", { class: "row" }, actions));
    const error = state.error;
    const text = state.said?.text;
    fill(said, error ? problem(error) : null,
      !error && text && !works ? problem({ text, hint: state.said.hint }, state.state === "failed" || state.state === "cut_off" ? "bad" : "good") : null,
      state.state === "starting" ? el("p", { class: "note" }, t("run.starting-why")) : null);
  }

  function figures() {
    const process = state.process ?? {};
    const machine = state.machine ?? {};
    const tile = (label, value, more = "") => el("div", { class: "tile", title: more }, el("span", { class: "tile-name" }, label), el("span", { class: "tile-value" }, value), more ? el("span", { class: "tile-why" }, more) : null);
    const lastEval = evals.at(-1);
    const all = [
      tile(t("run.loss"), figure(latest.loss ?? state.last?.loss)),
      tile(t("run.eval-loss"), lastEval ? figure(lastEval[1]) : "–"),
      tile(t("run.rate"), figure(latest.lr ?? state.last?.lr, 3)),
      tile(t("run.epoch"), figure(latest.epoch ?? state.last?.epoch, 3)),
      tile(t("run.elapsed"), latest.elapsed_time ?? state.last?.elapsed_time ?? "–"),
      tile(t("run.speed"), speed ? t("run.speed-of", { speed: figure(speed, 3) }) : "–"),
    ];
    if (state.process) {
      all.push(tile(t("run.memory"), bytes(process.memory), t("run.memory-peak", { peak: bytes(process.peak) })));
      if (busy !== null) all.push(tile(t("run.cores"), figure(busy, 2), t("run.cores-of", { cores: machine.cores })));
      all.push(tile(t("run.free"), bytes(machine.available), t("run.free-of", { all: bytes(machine.memory) })));
    }
    fill(tiles, all);
  }

  let before = null;
  function measure(next) {
    const seconds = next.process?.busy_seconds;
    const now = performance.now() / 1000;
    if (typeof seconds === "number") {
      if (before && before.pid === next.pid && now - before.now > 1.5) {
        busy = (seconds - before.seconds) / (now - before.now);
        before = null;
      }
      before ??= { seconds, now, pid: next.pid };
    }
  }

  function add(line, kind = "") {
    log.append(el("li", { class: kind }, line));
    while (log.children.length > LINES) log.firstChild.remove();
    log.scrollTop = log.scrollHeight;
  }

  function act(action, more = {}) {
    return async () => {
      try {
        await post(`runs/${part(name)}/${action}`, more);
        if (action === "stop") notice(t("run.stop-asked"));
        if (action === "resume") notice(t("run.resumed"));
      } catch (error) { failed(error); }
    };
  }

  async function remove() {
    if (!(await ask(t("run.delete-ask", { name }), t("run.delete-why", { name }), t("run.delete"), t("cancel"), name))) return;
    try { await post(`runs/${part(name)}/delete`, { name }); location.hash = "#/runs"; } catch (error) { failed(error); }
  }

  function rest() {
    const works = worksNow(state);
    const norms = detail.results?.grad_norms ?? [];
    normChart.draw([{ name: t("run.norm"), kind: "main", points: norms }]);
    const points = detail.checkpoints ?? [];
    fill(below,
      !works && (detail.adapter || detail.whole) ? exportsOf(name, detail, refresh) : null,
      points.length ? el("section", { class: "card" }, el("h2", {}, t("run.checkpoints")), el("p", { class: "lead" }, t("run.checkpoints-why")),
        el("ul", { class: "plain" }, points.map((step) => el("li", { class: "row" }, el("code", {}, `checkpoint-${step}`), el("span", { class: "grow" }),
          works || !detail.job ? null : button(t("run.resume-here"), act("resume", { checkpoint: step })))))) : null,
      el("section", { class: "card" }, el("h2", {}, t("run.folder")), el("p", {}, el("code", { class: "path" }, detail.path)), el("p", { class: "lead" }, rich(t("run.folder-why"))),
        detail.job ? el("details", {}, el("summary", {}, t("yaml.title")), el("pre", { tabIndex: 0 }, detail.job)) : null));
  }

  async function refresh() {
    try { detail = await get(`runs/${part(name)}`); header(); rest(); } catch { /* told when it is looked at again */ }
  }

  root.append(head, said, tiles,
    el("section", { class: "card" }, lossChart.box, el("div", { class: "row" }, el("label", { for: "smooth" }, t("run.smooth")), smooth), el("p", { class: "why" }, t("run.loss-why"))),
    el("div", { class: "two" }, el("section", { class: "card" }, rateChart.box), el("section", { class: "card" }, normChart.box)),
    el("section", { class: "card" }, el("h2", {}, t("run.log")), log),
    el("details", { class: "card meaning" }, el("summary", {}, t("run.figures")), el("p", {}, why("run.figures"))), below);
  header();
  figures();
  draw();
  rest();

  const online = el("p", { class: "note offline", hidden: true, role: "status" }, t("offline"));
  root.prepend(online);
  return follow(name, {
    online: (yes) => { online.hidden = yes; },
    again: () => { losses = []; evals = []; rates = []; },
    log: (lines) => {
      for (const line of lines) {
        if (typeof line !== "object" || line === null) continue;
        const step = line.current_steps;
        if (typeof line.loss === "number") { losses.push([step, line.loss]); latest = line; }
        if (typeof line.eval_loss === "number") evals.push([step, line.eval_loss]);
        if (typeof line.lr === "number") rates.push([step, line.lr]);
      }
      for (const line of lines.slice(-LINES)) {
        if (typeof line?.loss === "number") add(t("run.line", { step: line.current_steps, total: line.total_steps, loss: figure(line.loss), rate: figure(line.lr, 3), time: line.elapsed_time ?? "" }));
        else if (typeof line?.eval_loss === "number") add(t("run.eval-line", { step: line.current_steps, loss: figure(line.eval_loss) }), "eval");
      }
      draw();
      figures();
    },
    said: (events) => {
      for (const event of events) {
        if (event.kind === "speed") speed = event.tokens_per_second;
        else if (event.kind === "error") add([event.error.text, event.error.hint].filter(Boolean).join(" "), "bad");
        else if (event.kind === "warned") add([event.text, event.hint].filter(Boolean).join(" "), "warn");
        else if (event.kind === "text") add(event.text);
        else if (event.kind === "step_started") add([event.text, event.subject].filter(Boolean).join(" "));
      }
      figures();
    },
    state: (next) => {
      const turned = next.state !== state.state;
      measure(next);
      state = next;
      header();
      figures();
      if (turned) refresh();
    },
  });
}
