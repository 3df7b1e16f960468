// Links to the next and the previous page of a list.

import { html } from "../vendor/htm-preact.js";
import { address, changed } from "../state/route.js";
import { number } from "../pure/format.js";
import { icons } from "./icons.js";

export const ROWS = 50;

/** By cursor: the cursor of the page before, if it was visited. */
const before = new Map();

export function Paging({ route, list }) {
  const { view, id, params } = route;
  const cursor = params.get("cursor") ?? undefined;
  const at = cursor ? Number(params.get("at")) || 0 : 0;
  const { rows, total, next } = list;
  if (next) before.set(next, { cursor, at });
  const to = (changes) => address(view, id, changed(params, changes));
  const back = cursor && (before.get(cursor) ?? {});
  if (!cursor && !next) return html`<p class="paging"><span>${number(total)} in total</span></p>`;
  return html`<nav class="paging" aria-label="Pages">
    <span>${number(at + 1)}–${number(at + rows.length)} of ${number(total)}</span>
    <span class="paging-links">
      ${back ? html`<a class="button" rel="prev" href=${to({ cursor: back.cursor, at: back.at || undefined })}>${icons.left()}${back.cursor || before.has(cursor) ? "Newer" : "Newest"}</a>` : html`<span class="button off" role="link" aria-disabled="true">${icons.left()}Newer</span>`}
      ${next ? html`<a class="button" rel="next" href=${to({ cursor: next, at: at + rows.length })}>Older${icons.right()}</a>` : html`<span class="button off" role="link" aria-disabled="true">Older${icons.right()}</span>`}
    </span>
  </nav>`;
}
