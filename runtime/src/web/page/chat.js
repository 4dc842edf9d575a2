// Talking with a base model or the result of a run, or with both in turn.

import { get, part, post, say } from "/api.js";
import { button, el, failed, fill, problem } from "/dom.js";
import { t } from "/words.js";

export async function show(root, wanted) {
  const [models, runs] = await Promise.all([get("models"), get("runs")]);
  const usable = [];
  for (const run of runs.filter((one) => one.state !== "starting").slice(0, 40)) {
    const detail = await get(`runs/${part(run.name)}`).catch(() => null);
    if (detail && (detail.adapter || detail.whole)) usable.push(detail);
  }
  let messages = [];
  let gone = false;
  let loading = false;
  let answering = null;

  const choice = el("select", { id: "chat-model" },
    el("optgroup", { label: t("chat.runs") }, usable.map((run) => el("option", { value: `run:${run.name}` }, run.name))),
    el("optgroup", { label: t("chat.models") }, models.map((model) => el("option", { value: `model:${model.path}` }, model.name))));
  if (wanted && usable.some((run) => run.name === wanted)) choice.value = `run:${wanted}`;
  const status = el("div", { class: "status", role: "status" });
  const talk = el("div", { class: "talk", "aria-live": "polite", "aria-label": t("chat.talk"), tabIndex: 0 });
  const question = el("textarea", { id: "question", rows: 2, placeholder: t("chat.placeholder"), onkeydown: (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  } });
  const sendButton = button(t("chat.send"), () => (answering ? answering.abort() : send()), "main");
  const both = el("input", { type: "checkbox", id: "both" });
  const option = (id, value, min, max, step) => el("input", { type: "number", id, value, min, max, step });
  const temperature = option("temperature", 0.7, 0, 2, 0.05);
  const topP = option("top-p", 0.9, 0.05, 1, 0.05);
  const limit = option("limit", 512, 1, 32768, 1);
  const repetition = option("repetition", 1, 1, 2, 0.05);
  const system = el("textarea", { id: "system", rows: 2 });

  function target() {
    const value = choice.value;
    if (value.startsWith("run:")) {
      const run = usable.find((one) => one.name === value.slice(4));
      const template = run.template || null;
      if (!run.adapter) return { wish: { model: run.path, run: null, template }, base: null, title: run.name };
      const path = models.find((model) => model.path === run.model || model.name === run.model)?.path ?? run.model;
      return { wish: { model: path, run: run.name, template }, base: { model: path, run: null, template }, title: run.name };
    }
    const path = value.slice(6);
    return { wish: { model: path, run: null, template: null }, base: null, title: models.find((model) => model.path === path)?.name ?? path };
  }

  function same(found, wish) {
    return found.model === wish.model && (found.run ?? null) === wish.run && (found.template ?? null) === wish.template;
  }

  // Loads a model where it is not loaded yet, and waits.
  async function ready(wish) {
    let found = await get("chat");
    if (!same(found, wish) || found.state === "none" || found.state === "failed") {
      await post("chat/load", wish);
      found = { state: "loading" };
    }
    while (found.state === "loading" && !gone) {
      fill(status, el("p", { class: "loading" }, t("chat.loading")));
      await new Promise((resolve) => { setTimeout(resolve, 500); });
      found = await get("chat");
    }
    if (found.state === "ready") { tell(found); return true; }
    fill(status, problem(found.error ?? { text: t("chat.ended") }));
    return false;
  }

  function tell(found) {
    const name = found.run ?? found.model?.split("/").slice(-2).join("/");
    fill(status, found.state === "ready" ? el("p", { class: "note" }, t("chat.ready", { name })) : null,
      found.state === "none" ? el("p", { class: "note" }, t("chat.none")) : null,
      found.state === "failed" && found.error ? problem(found.error) : null);
    unload.disabled = found.state === "none";
  }

  async function load() {
    if (loading) return;
    loading = true;
    loadButton.disabled = true;
    try { await ready(target().wish); } catch (error) { failed(error); }
    loading = false;
    loadButton.disabled = false;
  }

  function bubble(kind, name, text = "") {
    const body = el("div", { class: "words" }, text);
    talk.append(el("div", { class: `bubble ${kind}` }, el("span", { class: "who" }, name), body));
    talk.scrollTop = talk.scrollHeight;
    return body;
  }

  async function answer(wish, name, history) {
    if (!(await ready(wish))) return null;
    const body = bubble("model", name);
    let text = "";
    const draws = Number(temperature.value) > 0;
    const asked = { messages: history, temperature: Number(temperature.value), max_tokens: Number(limit.value) };
    if (draws) asked.top_p = Number(topP.value);
    if (Number(repetition.value) !== 1) asked.repetition_penalty = Number(repetition.value);
    try {
      const usage = await say(asked, (piece) => {
        text += piece;
        body.textContent = text;
        talk.scrollTop = talk.scrollHeight;
      }, answering.signal);
      if (usage) body.parentNode.append(el("span", { class: "used" }, t("chat.used", { count: usage.completion_tokens })));
    } catch (error) {
      if (error.name !== "AbortError") { body.parentNode.append(problem(error)); return null; }
      body.parentNode.append(el("span", { class: "used" }, t("chat.stopped")));
    }
    return text;
  }

  async function send() {
    const text = question.value.trim();
    if (!text || answering || loading || !choice.value) return;
    answering = new AbortController();
    sendButton.textContent = t("chat.stop");
    question.value = "";
    bubble("user", t("chat.you"), text);
    messages.push({ role: "user", content: text });
    const told = system.value.trim();
    const history = told ? [{ role: "system", content: told }, ...messages] : messages;
    const { wish, base, title } = target();
    try {
      if (both.checked && base) await answer(base, t("chat.base"), history);
      const said = answering.signal.aborted ? null : await answer(wish, title, history);
      if (said !== null) messages.push({ role: "assistant", content: said });
      else messages.pop();
    } catch (error) { failed(error); messages.pop(); }
    answering = null;
    sendButton.textContent = t("chat.send");
    question.focus();
  }

  const loadButton = button(t("chat.load"), load, "main");
  const unload = button(t("chat.unload"), async () => { try { tell(await post("chat/unload")); } catch (error) { failed(error); } });
  const clear = button(t("chat.clear"), () => { messages = []; fill(talk); });
  choice.onchange = () => {
    messages = [];
    fill(talk);
    both.disabled = !target().base;
  };
  const field = (id, text, input, explained) => el("div", { class: "field" }, el("label", { for: id }, text), input, el("p", { class: "why" }, explained));
  root.append(el("h1", {}, t("chat.title")), el("div", { class: "columns" },
    el("div", { class: "column" }, el("section", { class: "card chat-box" }, status, talk,
      el("div", { class: "row ask-row" }, el("label", { for: "question", class: "hidden" }, t("chat.question")), question, sendButton))),
    el("aside", { class: "card" }, el("h2", {}, t("chat.with")),
      usable.length + models.length === 0 ? el("p", { class: "note" }, t("chat.nothing")) : null,
      field("chat-model", t("chat.model"), choice, t("chat.model-why")),
      el("div", { class: "row" }, loadButton, unload, clear),
      el("label", { class: "choice", for: "both" }, both, el("span", { class: "choice-text" }, el("strong", {}, t("chat.both")), el("span", { class: "facts" }, t("chat.both-why")))),
      el("details", { open: innerWidth > 1080 }, el("summary", {}, t("chat.options")),
        field("system", t("chat.system"), system, t("chat.system-why")),
        field("temperature", t("chat.temperature"), temperature, t("chat.temperature-why")),
        field("top-p", t("chat.top-p"), topP, t("chat.top-p-why")),
        field("repetition", t("chat.repetition"), repetition, t("chat.repetition-why")),
        field("limit", t("chat.limit"), limit, t("chat.limit-why"))))));
  if (choice.value) both.disabled = !target().base; else both.disabled = true;
  tell(await get("chat"));
  return () => { gone = true; answering?.abort(); };
}
