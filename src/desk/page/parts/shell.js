// The frame: navigation, connection state, theme, and the view.

import { html, useEffect, useRef } from "../vendor/htm-preact.js";
import { address, go, only, SHARED, under, useRoute } from "../state/route.js";
import { useAnswer } from "../state/query.js";
import { useConnection } from "../state/live.js";
import { endpoint } from "../state/api.js";
import { number } from "../pure/format.js";
import { icons } from "./icons.js";
import { Theme } from "./theme.js";
import { ErrorBoundary } from "./errors.js";
import { Traces } from "../views/traces.js";
import { Trace } from "../views/trace.js";
import { Sessions } from "../views/sessions.js";
import { Session } from "../views/session.js";
import { Charts } from "../views/charts.js";
import { Comments } from "../views/comments.js";
import { Dataset } from "../views/dataset.js";
import { Unmatched } from "../views/unmatched.js";
import { Status } from "../views/status.js";

const VIEWS = {
  traces: { title: "Traces", list: Traces, one: Trace, isFiltered: true },
  sessions: { title: "Sessions", list: Sessions, one: Session, isFiltered: true },
  charts: { title: "Charts", list: Charts, isFiltered: true },
  comments: { title: "Comments", list: Comments, isFiltered: true },
  dataset: { title: "Data set", list: Dataset, isFiltered: true },
  waiting: { title: "Unmatched feedback", list: Unmatched },
  status: { title: "Status", list: Status },
};

const STATES = { live: "Live", connecting: "Connecting", lost: "Disconnected" };

function Connection() {
  const state = useConnection();
  return html`<p class="connection" role="status" data-state=${state}><span class="lamp"></span><span class="state">${STATES[state]}</span></p>`;
}

const DEMO_NOTE = "Some of the data is generated: its resource has demo = true.";

function DemoBadge() {
  return html`<a class="demo-badge" href=${address("status")} title=${DEMO_NOTE}>Demo<span class="hidden">: some of the data is generated</span></a>`;
}

function Navigation({ route }) {
  const { data } = useAnswer(endpoint("status"));
  const unmatched = (data?.waiting ?? 0) + (data?.adrift ?? 0);
  // Views without a filter have none in their address; it is there again in the next view with one.
  const kept = useRef(new URLSearchParams());
  if (VIEWS[route.view].isFiltered) kept.current = only(route.params, SHARED);
  const list = useRef();
  useEffect(() => {
    // On a narrow screen the navigation is a row that scrolls: show the current view.
    const link = list.current.querySelector("[aria-current]");
    list.current.scrollLeft = link.offsetLeft - list.current.offsetLeft - 24;
  }, [route.view, unmatched > 0]);
  return html`<nav class="sidebar" aria-label="Views">
    <a class="brand" href=${address("traces")}><img src=${under("/page/icon.svg")} alt="" width="24" height="24" /><span>feedback-desk</span></a>
    ${data?.demo && html`<${DemoBadge} />`}
    <ul ref=${list}>
      ${Object.entries(VIEWS).map(([view, { title }]) => html`<li key=${view}>
        <a href=${address(view, undefined, VIEWS[view].isFiltered ? kept.current : {})} aria-current=${route.view === view ? "page" : undefined}>
          ${icons[view]()}<span>${title}</span>
          ${view === "waiting" && unmatched > 0 && html`<span class="badge">${number(unmatched)}</span>`}
        </a>
      </li>`)}
    </ul>
    <div class="sidebar-end">
      <${Connection} />
      <${Theme} />
      <a class="quiet" href=${under("/api")} target="_blank">API</a>
    </div>
  </nav>`;
}

export function Shell() {
  const route = useRoute();
  const { title, list, one, isFiltered } = VIEWS[route.view];
  const View = route.id !== undefined && one ? one : list;
  const main = useRef();

  useEffect(() => {
    if (!isFiltered && SHARED.some((name) => route.params.has(name))) {
      go(address(route.view, route.id, new URLSearchParams([...route.params].filter(([name]) => !SHARED.includes(name)))), { replace: true });
    }
  }, [route]);

  // The focus moves to the new view, so that screen readers read its heading.
  useEffect(() => {
    document.title = `${title} · feedback-desk`;
    if (route.by === "view") main.current.focus({ preventScroll: true });
  }, [route.view, route.id]);

  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the content</a>
    <${Navigation} route=${route} />
    <main id="main" tabindex="-1" ref=${main}>
      <${ErrorBoundary} key=${`${route.view} ${route.id ?? ""}`} at=${String(route.params)}><${View} route=${route} /><//>
    </main>`;
}
