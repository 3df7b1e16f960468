// Server-sent events: the desk reports changes. A hidden page disconnects.
//
// Over HTTP/1.1 a browser has six connections to a host, for all its windows, and each stream holds one. So the
// visible windows share one stream: that of the window that holds a lock, which tells the others. Where there are
// no locks (a page that is not secure) or no channels, each has a stream of its own.

import { useEffect, useState } from "../vendor/htm-preact.js";
import { endpoint } from "./api.js";
import { BASE } from "./route.js";

const NAME = `feedback-desk.events ${BASE}`;
const PAUSE = 3000; // ms before a refused stream is asked for again

const listeners = new Set();
const channel = globalThis.BroadcastChannel && globalThis.navigator?.locks ? new BroadcastChannel(NAME) : undefined;
/** The stream, in the window that has it. */
let source;
/** Aborted when this window is hidden: its part in the sharing. */
let part;
let version;
let state = "connecting";

function notify(hasChanged) {
  listeners.forEach((listener) => listener(hasChanged));
}

/** What the stream says, in each window. */
function hear(news) {
  state = news.state;
  // The first event only reports the current version.
  const hasChanged = news.version !== undefined && version !== undefined && version !== news.version;
  version = news.version ?? version;
  notify(hasChanged);
}

function tell(news) {
  hear(news);
  channel?.postMessage(news);
}

function open() {
  source = new EventSource(endpoint("events"));
  source.addEventListener("changed", (event) => tell({ state: "live", version: JSON.parse(event.data).version }));
  source.addEventListener("error", () => {
    tell({ state: "lost" });
    // The browser reconnects by itself, unless the desk refused the connection.
    if (source?.readyState !== EventSource.CLOSED) return;
    shut();
    setTimeout(() => part && !part.signal.aborted && !source && open(), PAUSE);
  });
}

function shut() {
  source?.close();
  source = undefined;
}

function connect() {
  if (document.hidden || part) return;
  part = new AbortController();
  const { signal } = part;
  signal.addEventListener("abort", shut);
  if (!channel) return open();
  channel.postMessage({ asks: true });
  const hold = () => new Promise((release) => {
    signal.addEventListener("abort", release);
    open();
  });
  // An error before the lock is there, other than by leaving: this window has a stream of its own.
  navigator.locks.request(NAME, { signal }, hold).catch(() => signal.aborted || source || open());
}

function disconnect() {
  part?.abort();
  part = undefined;
}

channel?.addEventListener("message", ({ data }) => {
  if (!data.asks) {
    if (part && !source) hear(data);
  } else if (source && state === "live") {
    channel.postMessage({ state, version });
  }
});
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
connect();

/** Calls `listener` when the stored data has changed. */
export function useChanges(listener) {
  useEffect(() => {
    const handler = (hasChanged) => hasChanged && listener();
    listeners.add(handler);
    return () => listeners.delete(handler);
  }, [listener]);
}

/** `connecting`, `live` or `lost`. */
export function useConnection() {
  const [shown, setShown] = useState(state);
  useEffect(() => {
    const handler = () => setShown(state);
    listeners.add(handler);
    handler(); // the state may have changed between the first render and this effect
    return () => listeners.delete(handler);
  }, []);
  return shown;
}
