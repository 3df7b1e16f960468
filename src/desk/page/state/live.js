// Server-sent events: the desk reports changes. A hidden page disconnects.

import { useEffect, useState } from "../vendor/htm-preact.js";
import { endpoint } from "./api.js";

const listeners = new Set();
let source;
let version;
let state = "connecting";

function notify(hasChanged) {
  listeners.forEach((listener) => listener(hasChanged));
}

function connect() {
  if (document.hidden || source) return;
  source = new EventSource(endpoint("events"));
  source.addEventListener("changed", (event) => {
    const notice = JSON.parse(event.data);
    // The first event only reports the current version.
    const hasChanged = version !== undefined && version !== notice.version;
    version = notice.version;
    state = "live";
    notify(hasChanged);
  });
  source.addEventListener("error", () => {
    state = "lost";
    notify(false);
    // The browser reconnects by itself, unless the desk refused the connection.
    if (source?.readyState === EventSource.CLOSED) {
      disconnect();
      setTimeout(connect, 3000);
    }
  });
}

function disconnect() {
  source?.close();
  source = undefined;
}

document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
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
    return () => listeners.delete(handler);
  }, []);
  return shown;
}
