// Charts: one of a field, or the saved ones together.

import { html } from "../vendor/htm-preact.js";
import { ChartView } from "./chart.js";
import { Dashboard } from "./dashboard.js";

export function Charts({ route }) {
  return route.params.get("field") ? html`<${ChartView} route=${route} />` : html`<${Dashboard} route=${route} />`;
}
