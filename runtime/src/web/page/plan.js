// What `check` said: the plan, what stands in its way, and the data as the model sees it.

import { el, problem } from "/dom.js";
import { bytes, count, figure, large, t } from "/words.js";

export function plan({ errors, warnings, result }) {
  const parts = [];
  if (errors.length > 0) parts.push(el("h3", {}, t("plan.refused")), ...errors.map((error) => problem(error)));
  if (result) {
    const tight = warnings.some((warning) => warning.code === "runtime.check-too-little-memory");
    parts.push(el("p", { class: tight ? "verdict warn" : "verdict good" }, tight ? t("plan.tight") : t("plan.ready")));
    parts.push(facts(result), memory(result.memory));
  }
  if (warnings.length > 0) {
    parts.push(el("h3", {}, t("plan.warnings")), ...warnings.map((warning) => problem(warning, "warn")));
  }
  if (result?.rows?.length) parts.push(el("h3", {}, t("plan.rows")), el("p", { class: "why" }, t("plan.rows-why")), ...result.rows.map(row));
  return parts;
}

function facts(result) {
  const part = result.parameters ? ` (${figure((result.trainable * 100) / result.parameters, 3)} %)` : "";
  const all = [
    [t("plan.model"), `${result.family} · ${large(result.parameters)}`],
    [t("plan.trained"), `${large(result.trainable)}${part}`],
    [t("plan.template"), result.template],
    [t("plan.examples"), `${count(result.examples)}${result.eval_examples ? ` + ${count(result.eval_examples)} ${t("plan.held-out")}` : ""}`],
    [t("plan.longest"), `${count(result.longest_example)} ${t("tokens")}`],
    [t("plan.steps"), t("plan.steps-of", { steps: count(result.steps), epochs: figure(result.epochs, 3) })],
    [t("plan.tokens"), count(result.tokens)],
    [t("plan.device"), result.device],
  ];
  return el("dl", { class: "facts-list" }, all.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value ?? "–"))));
}

function memory({ parts, total, available }) {
  const known = Object.entries(parts).filter(([, size]) => size > 0).sort((a, b) => b[1] - a[1]);
  const share = available ? Math.min(1, total / available) : 0;
  const meter = el("meter", { min: 0, max: 1, value: share, low: 0.7, high: 0.9, optimum: 0 });
  meter.setAttribute("aria-label", t("plan.memory"));
  return el("div", { class: "memory" },
    el("p", {}, el("strong", {}, t("plan.memory")), " ", t("plan.memory-of", { needed: bytes(total), free: bytes(available) })), meter,
    el("details", {}, el("summary", {}, t("plan.memory-parts")),
      el("dl", { class: "facts-list" }, known.map(([name, size]) => el("div", {}, el("dt", {}, t(`memory.${name}`)), el("dd", {}, bytes(size)))))));
}

function row(example) {
  return el("div", { class: "example" },
    el("p", { class: "facts" }, `${t(`row.${example.kind}`)} · ${count(example.tokens)} ${t("tokens")}`),
    el("pre", {}, example.parts.map((part) => el(part.learnt ? "mark" : "span", {}, part.text + (part.cut ? "…" : "")))));
}
