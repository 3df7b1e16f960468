// The address of the page is its state: the view, the item, and the filters.

import { useEffect, useState } from "../vendor/htm-preact.js";

export const VIEWS = ["traces", "sessions", "charts", "comments", "dataset", "waiting", "status"];

export { SHARED } from "../pure/narrowing.js";

/** The path under which a proxy serves the desk, without a slash at its end; usually empty. */
export const BASE = new URL("../..", import.meta.url).pathname.slice(0, -1);

/** A path of the desk as it is in an address. */
export const under = (path) => BASE + path;

const listeners = new Set();

/** The view, item and parameters of an address. */
export function parse(pathname, search) {
  const path = pathname === BASE || pathname.startsWith(`${BASE}/`) ? pathname.slice(BASE.length) : pathname;
  const [view = "", ...rest] = path.split("/").filter(Boolean);
  const decode = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  return {
    view: VIEWS.includes(view) ? view : "traces",
    id: rest.length ? decode(rest.join("/")) : undefined,
    params: new URLSearchParams(search),
  };
}

/** The address of a view. Empty parameters are left out. */
export function address(view, id, params) {
  const kept = new URLSearchParams();
  for (const [name, value] of params instanceof URLSearchParams ? params : Object.entries(params ?? {})) {
    if (value !== undefined && value !== null && value !== "") kept.append(name, value);
  }
  const query = kept.toString();
  return `${BASE}/${view}${id === undefined ? "" : `/${encodeURIComponent(id)}`}${query ? `?${query}` : ""}`;
}

/** Parameters with some of them changed; `undefined` takes one away. */
export function changed(params, changes) {
  const next = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined || value === null || value === "") next.delete(name);
    else next.set(name, value);
  }
  return next;
}

/** Some of the parameters. */
export function only(params, names) {
  return new URLSearchParams([...params].filter(([name]) => names.includes(name)));
}

const here = () => parse(location.pathname, location.search);

function tell(kind) {
  listeners.forEach((listener) => listener(kind));
}

/**
 * How far down each place of the history was left, by its key. Not in the history itself: to write
 * there while the browser goes back would stop it.
 */
const SCROLLS = "feedback-desk.scrolls";
const scrolls = new Map(JSON.parse(sessionStorage.getItem(SCROLLS) ?? "[]"));
const MOST_SCROLLS = 200;
const keyHere = () => history.state?.key ?? "first";

/**
 * Goes to an address of the page. Another view begins at its top; the same one, narrowed in another
 * way, stays where it is.
 */
export function go(url, { replace = false } = {}) {
  const target = new URL(url, location.href);
  if (target.href === location.href) return;
  const isOther = target.pathname !== location.pathname;
  const key = replace ? keyHere() : `${Date.now()}-${Math.random()}`;
  if (!replace) scrolls.set(keyHere(), scrollY);
  history[replace ? "replaceState" : "pushState"]({ key }, "", target);
  tell(isOther ? "view" : "same");
  if (isOther) scrollTo(0, 0);
}

/** Links of the page are followed without loading it again. */
export function watchLinks() {
  history.scrollRestoration = "manual";
  addEventListener("scroll", () => !restoring && scrolls.set(keyHere(), scrollY), { passive: true });
  addEventListener("pagehide", () => sessionStorage.setItem(SCROLLS, JSON.stringify([...scrolls].slice(-MOST_SCROLLS))));
  addEventListener("popstate", () => {
    const top = scrolls.get(keyHere()) ?? 0;
    tell("back");
    restoreScroll(top);
  });
  addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("a[href]");
    if (!link || event.defaultPrevented || event.button || link.target || link.hasAttribute("download")) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const url = new URL(link.href);
    if (url.origin !== location.origin || url.pathname.startsWith(under("/api")) || url.hash) return;
    event.preventDefault();
    go(url.href);
  });
  if (scrolls.has(keyHere())) restoreScroll(scrolls.get(keyHere()), 60);
}

/** What was there is drawn again in the next frames; then it is as long as it was. */
let restoring;
function restoreScroll(top, frames = 30) {
  cancelAnimationFrame(restoring);
  restoring = requestAnimationFrame(() => {
    scrollTo(0, top);
    restoring = undefined;
    if (Math.abs(scrollY - top) > 1 && frames) restoreScroll(top, frames - 1);
  });
}

/** The route, and how it was come by: `view`, `same` or `back`. */
export function useRoute() {
  const [route, setRoute] = useState(() => ({ ...here(), by: "load" }));
  useEffect(() => {
    const listener = (by) => setRoute({ ...here(), by });
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return route;
}
