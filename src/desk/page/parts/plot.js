// Lines or bars on a canvas. The table of the chart has the same data for keyboard and screen readers.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { exact, number } from "../pure/format.js";
import { bucketName, tickName } from "../pure/time.js";
import { ticks } from "../pure/axis.js";

const { uPlot } = globalThis;
const FONT = "12px system-ui, sans-serif";

const COLOURS = 12;
/** How near to a point of a group a click is on it, in pixels. */
const NEAR = 28;

/** The colour of a line: by its place among the groups, or by its role. */
export function colourName(line) {
  if (line.role === "compared" && line.place === undefined) return "--series-compared";
  return line.role === "other" ? "--series-other" : `--series-${(line.place % COLOURS) + 1}`;
}

/** Lines beyond the colours are dotted. */
export const isDotted = (line) => line.role === "own" && line.place >= COLOURS;

/** The line whose point is under the pointer, if there is one. */
function lineAt(plot, lines) {
  const { idx, top } = plot.cursor;
  const distance = ({ points }) => (points[idx] === null || points[idx] === undefined ? Infinity : Math.abs(plot.valToPos(points[idx], "y") - top));
  const [nearest] = lines.map((line) => ({ line, far: distance(line) })).sort((a, b) => a.far - b.far);
  return nearest && nearest.far <= NEAR ? nearest.line : undefined;
}

function useRedraw() {
  const [count, setCount] = useState(0);
  useEffect(() => {
    const redraw = () => setCount((before) => before + 1);
    const query = matchMedia("(prefers-color-scheme: dark)");
    query.addEventListener("change", redraw);
    addEventListener("themechange", redraw);
    return () => {
      query.removeEventListener("change", redraw);
      removeEventListener("themechange", redraw);
    };
  }, []);
  return count;
}

function range(kind) {
  if (kind === "share") return () => [0, 100];
  return (_, min, max) => {
    if (min === null || max === null) return [0, 1];
    if (kind === "count") return [0, Math.max(1, max * 1.08)];
    return uPlot.rangeNum(min, max, 0.12, true);
  };
}

/** `kind` is `share`, `count` or `value`; a click calls `onPick` with the index of the bucket, and the line under the pointer. */
export function Plot({ data, lines, kind, height = 280, label, onPick }) {
  const box = useRef();
  const tip = useRef();
  const theme = useRedraw();
  const { buckets, bucket, tz } = data;
  const count = buckets.length - 1;
  const key = JSON.stringify([buckets, tz, height, kind, lines.map(({ name, points, role }) => [name, points, role])]);
  const pick = useRef();
  pick.current = onPick;

  useLayoutEffect(() => {
    const style = getComputedStyle(box.current);
    const colour = (name) => style.getPropertyValue(name).trim();
    const grid = { stroke: colour("--line"), width: 1 };
    const axis = { stroke: colour("--soft"), font: FONT, ticks: { show: false } };
    const isBars = lines.length === 1 && kind === "count";
    const series = lines.map((line) => ({
      label: line.name,
      stroke: colour(colourName(line)),
      width: line.role === "compared" ? 1.5 : 2,
      dash: line.role === "compared" ? [5, 4] : isDotted(line) ? [2, 3] : undefined,
      spanGaps: false,
      ...(isBars
        ? { paths: uPlot.paths.bars({ size: [0.66, 36], radius: 0.15 }), fill: colour(colourName(line)), points: { show: false } }
        : { points: { show: count <= 120, size: 5, fill: colour("--surface"), width: 1.5 } }),
    }));
    const width = () => Math.max(200, Math.floor(box.current.clientWidth));
    const plot = new uPlot(
      {
        width: width(),
        height,
        padding: [12, 8, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: {
          // Whole in the colour of the line: in that of the background it would hide the point.
          size: 10, width: 2, fill: (u, at) => colour(colourName(lines[at - 1])), stroke: () => colour("--surface"),
        } },
        scales: { x: { time: false, range: () => [-0.5, count - 0.5] }, y: { range: range(kind) } },
        axes: [
          {
            ...axis, grid: { show: false }, size: 28, gap: 6,
            splits: (u) => ticks(count, u.width - 60),
            values: (_, places) => places.map((at) => tickName(buckets[at], bucket, tz)),
          },
          {
            ...axis, grid, size: 56, gap: 8, space: height < 200 ? 30 : 44,
            values: (_, values) => values.map((value) => (kind === "share" ? `${number(value)} %` : number(value))),
            ...(kind === "count" ? { incrs: [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8, 1e9] } : {}),
          },
        ],
        series: [{}, ...series],
        hooks: {
          setCursor: [(u) => point(u, tip.current, data, lines)],
        },
      },
      [Array.from({ length: count }, (_, at) => at), ...lines.map(({ points }) => points)],
      box.current,
    );
    const click = () => {
      const at = plot.cursor.idx;
      if (at !== null && at !== undefined && lines.some(({ points }) => points[at] !== null)) pick.current?.(at, lineAt(plot, lines));
    };
    plot.over.addEventListener("click", click);
    const watcher = new ResizeObserver(() => plot.width !== width() && plot.setSize({ width: width(), height }));
    watcher.observe(box.current);
    return () => {
      watcher.disconnect();
      plot.destroy();
    };
  }, [key, theme]);

  return html`<div class=${`plot ${onPick ? "can-pick" : ""}`} style=${{ minHeight: `${height}px` }}>
    <div ref=${box} role="img" aria-label=${label}></div>
    <div class="tip" ref=${tip} aria-hidden="true" hidden></div>
  </div>`;
}

/** Shows the values under the pointer. */
function point(plot, tip, data, lines) {
  if (!tip) return;
  const at = plot.cursor.idx;
  if (at === null || at === undefined || plot.cursor.left < 0) {
    tip.hidden = true;
    return;
  }
  const row = (name, text, isHead, isNear) => {
    const line = document.createElement("div");
    line.className = isHead ? "tip-head" : isNear ? "tip-line near" : "tip-line";
    const first = document.createElement("span");
    first.textContent = name;
    first.dir = "auto";
    line.append(first);
    if (text !== undefined) {
      const second = document.createElement("b");
      second.textContent = text;
      line.append(second);
    }
    return line;
  };
  const isEmpty = lines.every(({ points }) => points[at] === null);
  const near = lines.length > 1 ? lineAt(plot, lines) : undefined;
  const end = isEmpty ? [row("No values")] : lines.map((line) => row(line.name, exact(line.measure, line.points[at]), false, line === near));
  tip.replaceChildren(row(bucketName(data.buckets[at], data.bucket, data.tz), undefined, true), ...end);
  tip.hidden = false;
  const left = plot.valToPos(at, "x") + plot.over.offsetLeft;
  const isRight = left > plot.width / 2;
  tip.style.left = isRight ? "" : `${left + 12}px`;
  tip.style.right = isRight ? `${plot.width - left + 12}px` : "";
}
