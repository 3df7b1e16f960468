// Downloads the list or chart as a file, all its pages.

import { html, useEffect, useRef } from "../vendor/htm-preact.js";
import { endpoint } from "../state/api.js";
import { icons } from "./icons.js";

const FORMATS = [["csv", "CSV"], ["jsonl", "JSON lines"]];

/** `views` are pairs of a view of the API and its title; `query` holds the parameters of both. */
export function Export({ views, query }) {
  const menu = useRef();
  useEffect(() => {
    const away = (event) => !menu.current?.contains(event.target) && (menu.current.open = false);
    addEventListener("click", away);
    return () => removeEventListener("click", away);
  }, []);
  const { limit, cursor, ...kept } = query;
  const shut = (event) => {
    if (event.key !== "Escape") return;
    menu.current.open = false;
    menu.current.querySelector("summary").focus();
  };
  return html`<details class="export" ref=${menu} onKeyDown=${shut}>
    <summary class="button">${icons.download()}Export</summary>
    <ul class="menu">
      ${views.flatMap(([view, name, more]) => FORMATS.map(([format, kind]) => html`<li key=${view + format}>
        <a download href=${endpoint(`export/${view}`, { ...kept, ...more, format })}>${name} <span class="note">${kind}</span></a>
      </li>`))}
    </ul>
  </details>`;
}
