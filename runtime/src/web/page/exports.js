// The result of a run as a model of its own.

import { get, part, post } from "/api.js";
import { button, el, failed, problem } from "/dom.js";
import { bytes, t } from "/words.js";

export function exportsOf(run, detail, refresh) {
  const taken = (detail.exports ?? []).map((one) => one.name);
  let number = 1;
  while (taken.includes(`model-${number}`)) number += 1;
  const name = el("input", { type: "text", id: "export-name", value: `model-${number}`, maxLength: 60, autocomplete: "off" });
  const numbers = el("select", { id: "export-numbers" }, ["auto", "bfloat16", "float16", "float32"].map((kind) => el("option", { value: kind }, t(`export.${kind}`))));
  const shard = el("input", { type: "number", id: "export-shard", min: 1, max: 1000, step: 1, value: 5 });
  const packed = el("input", { type: "checkbox", id: "export-packed" });
  const go = button(t("export.start"), start, "main");

  async function start() {
    go.disabled = true;
    try {
      await post(`runs/${part(run)}/export`, { name: name.value, numbers: numbers.value, shard: Number(shard.value), four_bit: packed.checked });
      later();
      await refresh();
    } catch (error) { failed(error); go.disabled = false; }
  }

  // As long as one is being made, how far it is.
  function later() {
    setTimeout(async () => {
      if (!document.contains(box)) return;
      const now = await get(`runs/${part(run)}`).catch(() => null);
      if (!now) return;
      await refresh();
    }, 1500);
  }

  const field = (id, text, input, explained) => el("div", { class: "field" }, el("label", { for: id }, text), input, el("p", { class: "why" }, explained));
  const box = el("section", { class: "card" }, el("h2", {}, t("export.title")), el("p", { class: "lead" }, t("export.why")),
    el("ul", { class: "plain" }, (detail.exports ?? []).map(one)),
    el("div", { class: "fields" },
      field("export-name", t("export.name"), name, t("export.name-why")),
      field("export-numbers", t("export.numbers"), numbers, t("export.numbers-why")),
      field("export-shard", t("export.shard"), shard, t("export.shard-why"))),
    el("label", { class: "choice", for: "export-packed" }, packed, el("span", { class: "choice-text" }, el("strong", {}, t("export.packed")), el("span", { class: "facts" }, t("export.packed-why")))),
    el("div", { class: "row" }, go));
  if ((detail.exports ?? []).some((one) => one.state === "running")) later();
  return box;
}

function one(made) {
  const parts = [el("strong", {}, made.name), " ", el("span", { class: `badge ${made.state}` }, t(`export.state-${made.state}`))];
  if (made.state === "running") {
    const bar = made.total ? el("progress", { max: made.total, value: made.done ?? 0 }) : el("progress", {});
    bar.setAttribute("aria-label", made.name);
    parts.push(" ", bar);
  }
  if (made.bytes) parts.push(" ", bytes(made.bytes));
  return el("li", {}, el("p", {}, parts), el("p", {}, el("code", { class: "path" }, made.path)), made.error ? problem(made.error) : null);
}
