// Curves, drawn as SVG.

import { el, fill, svg } from "/dom.js";
import { figure, t } from "/words.js";

const EDGE = { left: 58, right: 14, top: 12, bottom: 28 };
const MOST = 1200;

// A mean in which older points weigh less; as the original's figure has it.
export function smoothed(points, weight) {
  let last = null;
  return points.map(([x, y]) => {
    last = last === null ? y : last * weight + (1 - weight) * y;
    return [x, last];
  });
}

// Few enough points to draw: of each stretch the lowest and the highest.
function thinned(points) {
  if (points.length <= MOST) return points;
  const size = Math.ceil(points.length / (MOST / 2));
  const kept = [];
  for (let at = 0; at < points.length; at += size) {
    const some = points.slice(at, at + size);
    const low = some.reduce((a, b) => (b[1] < a[1] ? b : a));
    const high = some.reduce((a, b) => (b[1] > a[1] ? b : a));
    kept.push(...(low[0] < high[0] ? [low, high] : low === high ? [low] : [high, low]));
  }
  return kept;
}

function ticks(low, high, wanted) {
  const raw = (high - low) / wanted || 1;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((by) => by * size).find((candidate) => candidate >= raw);
  const all = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-6; tick += step) all.push(Number(tick.toPrecision(10)));
  return all;
}

// `lines`: [{ points: [[x, y]], kind: class, name, dots: bool }]
export function chart({ title, height = 240, empty }) {
  const readout = el("output", { class: "readout" });
  const legend = el("div", { class: "legend" });
  const picture = svg("svg", { viewBox: `0 0 720 ${height}`, role: "img", class: "chart" });
  const box = el("figure", { class: "figure" },
    el("figcaption", {}, el("strong", {}, title), legend, readout), picture);
  let lines = [];
  let scale = null;
  let breadth = 720;
  let given = [];
  // As wide as its place, so that letters keep their size.
  new ResizeObserver(() => {
    const width = Math.round(picture.clientWidth);
    if (width > 0 && width !== breadth) { breadth = width; draw(given); }
  }).observe(picture);

  picture.addEventListener("pointermove", (event) => {
    if (!scale) return;
    const bounds = picture.getBoundingClientRect();
    const x = scale.back(((event.clientX - bounds.left) / bounds.width) * breadth);
    const near = lines.filter((line) => !line.quiet).map((line) => {
      const point = line.points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a), line.points[0]);
      return point ? `${line.name} ${figure(point[1])} (${t("step", { step: point[0] })})` : "";
    });
    readout.textContent = near.filter(Boolean).join("  ");
  });
  picture.addEventListener("pointerleave", () => { readout.textContent = ""; });

  function draw(next) {
    given = next;
    picture.setAttribute("viewBox", `0 0 ${breadth} ${height}`);
    lines = given.map((line) => ({ ...line, points: line.points.filter((p) => Number.isFinite(p[1])) }))
      .filter((line) => line.points.length > 0);
    fill(legend, lines.filter((line) => !line.quiet).map((line) => el("span", { class: `key ${line.kind}` }, line.name)));
    if (lines.length === 0) {
      scale = null;
      fill(picture, text(breadth / 2, height / 2, empty ?? t("chart.empty"), "middle"));
      picture.setAttribute("aria-label", `${title}: ${empty ?? t("chart.empty")}`);
      return;
    }
    const xs = lines.flatMap((line) => [line.points[0][0], line.points.at(-1)[0]]);
    let [left, right] = [Math.min(...xs), Math.max(...xs)];
    if (left === right) { left -= 1; right += 1; }
    let low = Infinity;
    let high = -Infinity;
    for (const line of lines) for (const [, y] of line.points) { low = Math.min(low, y); high = Math.max(high, y); }
    if (low === high) { const room = Math.abs(low) * 0.1 || 1; low -= room; high += room; }
    const room = (high - low) * 0.06;
    low = low >= 0 && low - room < 0 ? 0 : low - room;
    high += room;
    const across = (x) => EDGE.left + ((x - left) / (right - left)) * (breadth - EDGE.left - EDGE.right);
    const down = (y) => EDGE.top + ((high - y) / (high - low)) * (height - EDGE.top - EDGE.bottom);
    scale = { back: (px) => left + ((px - EDGE.left) / (breadth - EDGE.left - EDGE.right)) * (right - left) };
    const parts = [];
    for (const tick of ticks(low, high, height > 200 ? 6 : 4)) {
      parts.push(svg("line", { class: "grid", x1: EDGE.left, x2: breadth - EDGE.right, y1: down(tick), y2: down(tick) }));
      parts.push(text(EDGE.left - 8, down(tick) + 4, figure(tick, 3), "end"));
    }
    for (const tick of ticks(left, right, Math.max(3, breadth / 110)).filter(Number.isInteger)) {
      parts.push(text(across(tick), height - 8, String(tick), "middle"));
    }
    for (const line of lines) {
      const points = thinned(line.points);
      const path = points.map(([x, y]) => `${across(x).toFixed(1)},${down(y).toFixed(1)}`).join(" ");
      parts.push(svg("polyline", { class: `line ${line.kind}`, points: path, fill: "none" }));
      if (line.dots || points.length === 1) {
        for (const [x, y] of points) parts.push(svg("circle", { class: `dot ${line.kind}`, cx: across(x), cy: down(y), r: 3.5 }));
      }
    }
    fill(picture, parts);
    const told = lines.filter((line) => !line.quiet).map((line) =>
      `${line.name}: ${figure(line.points[0][1])} → ${figure(line.points.at(-1)[1])}`);
    picture.setAttribute("aria-label", `${title}. ${told.join("; ")}`);
  }

  draw([]);
  return { box, draw };
}

function text(x, y, content, anchor) {
  const made = svg("text", { x, y, "text-anchor": anchor, class: "tick" });
  made.textContent = content;
  return made;
}
