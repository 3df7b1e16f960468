// What the desk tells by itself: that something has changed. A page that nobody sees is not told.

import { useEffect, useState } from "../vendor/htm-preact.js";

const listeners = new Set();
let source;
let version;
let state = "connecting";

function tell(hasChanged) {
  listeners.forEach((listener) => listener(hasChanged));
}

function connect() {
  if (document.hidden || source) return;
  source = new EventSource("/api/v1/events");
  source.addEventListener("changed", (event) => {
    const told = JSON.parse(event.data);
    // The first only tells where the desk stands.
    const hasChanged = version !== undefined && version !== told.version;
    version = told.version;
    state = "live";
    tell(hasChanged);
  });
  source.addEventListener("error", () => {
    state = "lost";
    tell(false);
    // The browser tries again by itself, unless it was refused.
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

/** Calls when what the desk keeps has changed. */
export function useChanges(listener) {
  useEffect(() => {
    const heard = (hasChanged) => hasChanged && listener();
    listeners.add(heard);
    return () => listeners.delete(heard);
  }, [listener]);
}

/** `connecting`, `live` or `lost`. */
export function useConnection() {
  const [shown, setShown] = useState(state);
  useEffect(() => {
    const heard = () => setShown(state);
    listeners.add(heard);
    return () => listeners.delete(heard);
  }, []);
  return shown;
}
