// A chart: its figures, its plots, and the number of values.

import { html } from "../vendor/htm-preact.js";
import { change, exact, isShare, measured, number } from "../pure/format.js";
import { bucketParams, valueCount, lines as linesOf, measureName, panels, shownMeasures } from "../pure/chart.js";
import { address, go } from "../state/route.js";
import { narrowed } from "../state/api.js";
import { browserZone } from "../pure/time.js";
import { colourName, isDotted, Plot } from "./plot.js";

const OWN = ["field", "measure", "bucket", "group", "top", "time", "compare"];

/** The parameters of the API for a chart. */
export function chartQuery(params) {
  const more = { tz: params.get("tz") || browserZone() };
  for (const name of OWN) more[name] = params.get(name);
  return narrowed(params, more, params.get("compare") === "previous");
}

const kindOf = (measure) => (isShare(measure) ? "share" : measure === "count" ? "count" : "value");

/** The address of the traces of a bucket. */
export const bucketAddress = (params, data, at, series) => address("traces", undefined, bucketParams(params, data, at, series));

function Figures({ data, measures }) {
  return html`<dl class="chart-figures">
    ${measures.map((measure) => {
      const now = data.total.overall[measure];
      const delta = data.compare && change(measure, now, data.compare.total.overall[measure]);
      return html`<div key=${measure}><dt>${measureName(measure, data.field)}</dt>
        <dd><span class="value" title=${exact(measure, now)}>${measured(measure, now)}</span>
          ${delta && html`<span class="delta">${delta} <span class="note" title=${exact(measure, data.compare.total.overall[measure])}>was ${measured(measure, data.compare.total.overall[measure])}</span></span>`}</dd></div>`;
    })}
  </dl>`;
}

function Legend({ lines }) {
  if (lines.length < 2) return null;
  return html`<ul class="legend">
    ${lines.map((line, at) => html`<li key=${`${line.name} ${at}`}>
      <span class=${`swatch ${line.role} ${isDotted(line) ? "dotted" : ""}`} style=${{ "--swatch": `var(${colourName(line)})` }}></span>
      <span class="name" dir="auto">${line.name}</span> <b title=${exact(line.measure, line.overall)}>${measured(line.measure, line.overall)}</b> <span class="note">${number(line.values)}</span></li>`)}
  </ul>`;
}

export function Chart({ params, data, height, isSmall = false }) {
  const measures = shownMeasures(data, params);
  const shown = panels(isSmall ? measures.slice(0, 1) : measures, data.groups.length > 0);
  // On a point of a group: the traces of that group.
  const pick = (at, line) => go(bucketAddress(params, data, at, data.groups.length && line?.role !== "compared" ? line?.series : undefined));
  return html`<div class=${`chart ${isSmall ? "small" : ""}`}>
    <${Figures} data=${data} measures=${isSmall ? measures.slice(0, 1) : measures} />
    ${data.values > 0 && shown.map((panel) => {
      const lines = linesOf(data, panel);
      const name = panel.map((measure) => measureName(measure, data.field)).join(", ");
      return html`<figure key=${panel.join()}>
        ${shown.length > 1 && html`<figcaption>${name}</figcaption>`}
        <${Plot} data=${data} lines=${lines} kind=${kindOf(panel[0])} height=${height} onPick=${pick}
          label=${`${name} of ${data.field} per ${data.bucket}: ${data.total.values} values. The table below has the same data.`} />
        <${Legend} lines=${lines} />
      </figure>`;
    })}
    ${!isSmall && html`<p class="note holds">${valueCount(data)}${data.other_groups > 0 ? `; “other” is ${data.other_groups} more groups` : ""}.
      ${data.values > 0 && ` ${data.bucket[0].toUpperCase() + data.bucket.slice(1)}s without values are left blank. Click a ${data.bucket}${data.groups.length ? ", or a point of a group," : ""} to list its traces.`}</p>`}
  </div>`;
}
