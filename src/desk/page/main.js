// Entry point of the page.

import { html, render } from "./vendor/htm-preact.js";
import { Shell } from "./parts/shell.js";
import { watchLinks } from "./state/route.js";

watchLinks();
render(html`<${Shell} />`, document.getElementById("app"));
