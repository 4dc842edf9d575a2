// All words of the page come from the program's catalogues, in Chinese or English.

let table = {};
let current = "zh";

export function language() { return current; }

export async function load(wanted) {
  current = wanted === "en" ? "en" : "zh";
  const answer = await fetch(`/api/words?lang=${current}`);
  table = await answer.json();
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
}

export function t(code, values = {}) { return filled(table[code]?.text ?? code, values); }
export function why(code) { return table[code]?.why ?? ""; }
export function hint(code) { return table[code]?.hint ?? ""; }
export function has(code) { return code in table; }

function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (gap, name) => (name in values ? String(values[name]) : gap));
}

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let amount = count;
  while (amount >= 1024 && unit + 1 < units.length) { amount /= 1024; unit += 1; }
  return `${unit === 0 ? amount : amount.toFixed(1)} ${units[unit]}`;
}

export function count(number) {
  if (number === null || number === undefined) return "–";
  return new Intl.NumberFormat(current === "zh" ? "zh-CN" : "en").format(number);
}

// 1543714304 as people say it.
export function large(number) {
  if (number === null || number === undefined) return "–";
  const steps = current === "zh" ? [[1e8, "亿"], [1e4, "万"]] : [[1e9, "B"], [1e6, "M"], [1e3, "K"]];
  for (const [size, unit] of steps) if (number >= size) return `${(number / size).toPrecision(3)} ${unit}`;
  return count(number);
}

export function moment(seconds) {
  if (!seconds) return "–";
  const form = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" };
  return new Intl.DateTimeFormat(current === "zh" ? "zh-CN" : "en-GB", form).format(new Date(seconds * 1000));
}

export function figure(number, digits = 4) {
  if (typeof number !== "number" || !Number.isFinite(number)) return "–";
  const size = Math.abs(number);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? number.toExponential(2) : String(Number(number.toPrecision(digits)));
}
