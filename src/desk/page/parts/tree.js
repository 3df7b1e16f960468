// The spans of a trace as a tree, with a bar for when and how long. The pattern of the ARIA
// authoring practices: one stop for Tab, arrows inside.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { count, duration } from "../pure/format.js";
import { Chips } from "./chips.js";
import { icons } from "./icons.js";

/**
 * How far a span of a level is indented, in pixels. Deep levels are narrow, so that their names have room, and
 * have their number.
 */
const indent = (depth) => Math.min(depth, 4) * 14 + Math.min(Math.max(0, depth - 4), 28) * 2.5;
const NUMBERED = 8;

/** Rows that are drawn at first; a browser is slow with thousands. */
const MOST = 500;

const verdicts = (span) => ["feedback", "metrics"].flatMap((name) => span.document?.namespaces[name] ?? []);

/** Rows whose parents are all unfolded, each with whether it has children. */
function visible(spans, folded) {
  const rows = [];
  let hiddenBelow = Infinity;
  spans.forEach((span, at) => {
    if (span.depth > hiddenBelow) return;
    hiddenBelow = Infinity;
    const hasChildren = (spans[at + 1]?.depth ?? 0) > span.depth;
    const isFolded = folded.has(span.span_id);
    if (hasChildren && isFolded) hiddenBelow = span.depth;
    rows.push({ span, hasChildren, isFolded });
  });
  return rows;
}

export function Tree({ trace, spans, selected, onSelect }) {
  const [folded, setFolded] = useState(new Set());
  const [most, setMost] = useState(MOST);
  const list = useRef();
  const rows = visible(spans, folded);
  const from = trace.start ?? Math.min(...spans.map(({ start }) => start));
  const length = Math.max(0.001, trace.duration_ms);
  const active = rows.findIndex(({ span }) => span.span_id === selected);

  useEffect(() => {
    if (active >= most) setMost(active + MOST);
  }, [active]);

  // A span that the address names is in sight, within the tree.
  useEffect(() => {
    const row = list.current?.querySelector('[aria-selected="true"]');
    if (!row) return;
    const { top, height } = list.current.getBoundingClientRect();
    const place = row.getBoundingClientRect();
    if (place.top < top || place.bottom > top + height) list.current.scrollTop += place.top - top - height / 3;
  }, [selected, most]);

  const fold = (id, isFolded) => {
    const next = new Set(folded);
    if (isFolded) next.add(id);
    else next.delete(id);
    setFolded(next);
  };
  const focus = (at) => {
    const row = rows[at];
    if (!row) return;
    onSelect(row.span.span_id, true);
    requestAnimationFrame(() => list.current?.querySelector(`[data-span="${row.span.span_id}"]`)?.focus());
  };
  const onKeyDown = (event) => {
    const at = active < 0 ? 0 : active;
    const { span, hasChildren, isFolded } = rows[at];
    const keys = {
      ArrowDown: () => focus(Math.min(at + 1, rows.length - 1)),
      ArrowUp: () => focus(Math.max(at - 1, 0)),
      Home: () => focus(0),
      End: () => focus(rows.length - 1),
      ArrowRight: () => (hasChildren && isFolded ? fold(span.span_id, false) : hasChildren && focus(at + 1)),
      ArrowLeft: () => {
        if (hasChildren && !isFolded) fold(span.span_id, true);
        else for (let above = at - 1; above >= 0; above -= 1) if (rows[above].span.depth < span.depth) return focus(above);
      },
    };
    if (!keys[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  };

  return html`<div class="tree" role="tree" aria-label="Spans" ref=${list} onKeyDown=${onKeyDown}>
    ${rows.slice(0, most).map(({ span, hasChildren, isFolded }, at) => {
      const left = Math.min(99.5, Math.max(0, ((span.start - from) / length) * 100));
      const width = Math.min(100 - left, Math.max(0.5, (span.duration_ms / length) * 100));
      const leaves = verdicts(span);
      return html`<div key=${span.span_id} class=${`span ${span.status === "error" ? "has-failed" : ""} ${span.carrier ? "is-carrier" : ""}`}
        role="treeitem" aria-level=${span.depth + 1} aria-selected=${String(span.span_id === selected)}
        aria-expanded=${hasChildren ? String(!isFolded) : undefined} data-span=${span.span_id}
        tabindex=${at === Math.max(0, active) ? "0" : "-1"} onClick=${() => onSelect(span.span_id)}
        onKeyPress=${(event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), onSelect(span.span_id))}>
        <div class="span-name" style=${{ paddingInlineStart: `min(${indent(span.depth)}px, 45%)` }}>
          <span class=${`fold ${hasChildren ? "" : "leaf"} ${isFolded ? "folded" : ""}`} aria-hidden="true"
            onClick=${(event) => { if (!hasChildren) return; event.stopPropagation(); fold(span.span_id, !isFolded); }}>${hasChildren && icons.open()}</span>
          ${span.depth >= NUMBERED && html`<span class="level" title=${`Level ${span.depth + 1}`}>${span.depth + 1}</span>`}
          <span class="title" dir="auto" title=${span.name}>${span.name || "unnamed"}</span>
          ${span.status === "error" && html`<span class="failed">${icons.error()}<span class="hidden">failed</span></span>`}
          ${span.carrier && html`<span class="tag">carrier</span>`}
        </div>
        <div class="track"><span class="length" style=${{ marginInlineStart: `${left}%`, width: `${width}%` }}></span></div>
        <span class="figure" title=${`${span.duration_ms} ms`}>${duration(span.duration_ms)}</span>
        ${leaves.length > 0 && html`<div class="span-feedback" style=${{ paddingInlineStart: `min(${indent(span.depth) + 20}px, 45%)` }}><${Chips} leaves=${leaves} most=${6} /></div>`}
      </div>`;
    })}
    ${rows.length > most && html`<button class="link" onClick=${() => setMost(most + MOST)}>Show more of ${count(rows.length, "span")}</button>`}
  </div>`;
}
