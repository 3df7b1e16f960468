// Pictures, drawn with the colour of the text around them.

import { html } from "../vendor/htm-preact.js";

const draw = (paths, size = 16) => html`
  <svg class="icon" viewBox="0 0 16 16" width=${size} height=${size} aria-hidden="true" focusable="false">
    ${paths.map((d) => html`<path d=${d} />`)}
  </svg>`;

const HAND = "M5 7.2 7.600 2.200c.9 0 1.600.7 1.600 1.600V6.200h3.300c.9 0 1.500.8 1.300 1.600l-1 4.600c-.2.7-.8 1.200-1.500 1.200H5Z M5 7.200H2.500v6.400H5";

export const icons = {
  up: () => draw([HAND]),
  down: () => html`<span class="upside-down">${draw([HAND])}</span>`,
  star: () => html`<svg class="icon filled" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true"><path d="M8 1.600l1.900 4 4.400.6-3.200 3.100.8 4.400L8 11.600l-3.900 2.100.8-4.400L1.700 6.200l4.400-.6Z" /></svg>`,
  comment: () => draw(["M2.500 3h11v7.500h-6L4.500 13v-2.500h-2Z"]),
  truth: () => draw(["M3 8.500 6.500 12 13 4.500"]),
  close: () => draw(["M4 4l8 8", "M12 4l-8 8"]),
  plus: () => draw(["M8 3v10", "M3 8h10"]),
  left: () => draw(["M10 3 5 8l5 5"]),
  right: () => draw(["M6 3l5 5-5 5"]),
  open: () => draw(["M4 6l4 4 4-4"]),
  download: () => draw(["M8 2.500v8", "M4.500 7.500 8 11l3.500-3.500", "M3 13.500h10"]),
  text: () => draw(["M3 4h10", "M3 8h10", "M3 12h6"]),
  error: () => draw(["M8 4.500v4.500", "M8 11.300v.4", "M8 1.500a6.500 6.500 0 1 1 0 13 6.500 6.500 0 0 1 0-13Z"]),
  traces: () => draw(["M2 4h8", "M5 8h8", "M7 12h5"]),
  sessions: () => draw(["M2 3h9v6H5.500L3 11V9H2Z", "M13 6h1v6h-1v2l-2.500-2H7"]),
  charts: () => draw(["M2.500 2.500v11h11", "M5 10l2.500-3 2.500 2 3-4.500"]),
  comments: () => draw(["M2.500 3h11v7.500h-6L4.500 13v-2.500h-2Z", "M5 6h6", "M5 8h4"]),
  dataset: () => draw(["M2.500 3.500h11v9h-11Z", "M2.500 6.500h11", "M6.500 3.500v9"]),
  waiting: () => draw(["M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2Z", "M8 5v3.200l2 1.300"]),
  status: () => draw(["M1.500 8H5l1.500-4.500 3 9L11 8h3.500"]),
  save: () => draw(["M4 2.500h8v11l-4-3-4 3Z"]),
};
