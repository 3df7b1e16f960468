// The data of a chart as a table: for the keyboard, screen readers, and copying.

import { html, useState } from "../vendor/htm-preact.js";
import { exact, measured, NOTHING } from "../pure/format.js";
import { lines as linesOf, measureName, shownMeasures, tabbed } from "../pure/chart.js";
import { bucketName } from "../pure/time.js";
import { bucketAddress } from "./chart.js";

export function ChartTable({ params, data }) {
  const [notice, setNotice] = useState("");
  const measures = shownMeasures(data, params);
  const columns = measures.flatMap((measure) => linesOf(data, [measure]));
  const titleOf = (line) => (measures.length > 1 && (data.groups.length || line.role === "compared") ? `${measureName(line.measure, data.field)}: ${line.name}` : line.name);
  const starts = data.buckets.slice(0, -1);
  const copy = async () => {
    const rows = starts.map((start, at) => [bucketName(start, data.bucket, data.tz), ...columns.map(({ points }) => points[at] ?? "")]);
    try {
      await navigator.clipboard.writeText(tabbed([data.bucket, ...columns.map(titleOf)], rows));
      setNotice("Copied");
    } catch {
      setNotice("The browser blocked the clipboard");
    }
  };
  const isGroup = (line) => data.groups.length > 0 && line.role !== "compared";
  return html`<div class="chart-table">
    <div class="actions"><button onClick=${copy}>Copy table</button><span role="status" class="note">${notice}</span></div>
    <div class="scroll" tabindex="0" role="region" aria-label="The chart as a table">
      <table class="figures-table">
        <thead><tr><th scope="col">${data.bucket[0].toUpperCase() + data.bucket.slice(1)}</th>
          ${columns.map((line, at) => html`<th key=${at} scope="col" dir="auto">${titleOf(line)}</th>`)}</tr></thead>
        <tbody>
          ${starts.map((start, at) => {
            const name = bucketName(start, data.bucket, data.tz);
            const isEmpty = columns.every(({ points, role }) => role === "compared" || points[at] === null);
            return html`<tr key=${start}>
              <th scope="row">${isEmpty ? name : html`<a href=${bucketAddress(params, data, at)}>${name}</a>`}</th>
              ${columns.map((line, place) => {
                const value = line.points[at];
                const text = measured(line.measure, value);
                return html`<td key=${place} class=${value === null ? "gap" : ""} title=${exact(line.measure, value)}>${value === null ? html`<span class="none">${NOTHING}<span class="hidden">no values</span></span>`
                  : isGroup(line) ? html`<a href=${bucketAddress(params, data, at, line.series)}>${text}</a>` : text}</td>`;
              })}
            </tr>`;
          })}
        </tbody>
        <tfoot><tr><th scope="row">All</th>${columns.map((line, at) => html`<td key=${at} title=${exact(line.measure, line.overall)}>${measured(line.measure, line.overall)}</td>`)}</tr></tfoot>
      </table>
    </div>
  </div>`;
}
