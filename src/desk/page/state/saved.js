// Saved charts. The API only reads, so they are kept by the browser; a link or a text carries them
// to another one.

import { useEffect, useState } from "../vendor/htm-preact.js";

const KEY = "feedback-desk.charts";
const MOST = 100;
const listeners = new Set();

const isChart = (each) =>
  typeof each === "object" && each !== null && typeof each.title === "string" && typeof each.query === "string"
  && new URLSearchParams(each.query).has("field");

/** Charts of foreign text: only what they should have. */
export function read(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(found) || !found.every(isChart)) return undefined;
  return found.slice(0, MOST).map(({ title, query }) => ({ title, query }));
}

export function load() {
  try {
    return read(localStorage.getItem(KEY) ?? "[]") ?? [];
  } catch {
    return [];
  }
}

export function store(charts) {
  localStorage.setItem(KEY, JSON.stringify(charts.slice(0, MOST)));
  listeners.forEach((listener) => listener());
}

/** The saved charts, also when another tab has saved one. */
export function useSaved() {
  const [charts, setCharts] = useState(load);
  useEffect(() => {
    const listener = () => setCharts(load());
    const other = (event) => event.key === KEY && listener();
    listeners.add(listener);
    addEventListener("storage", other);
    return () => {
      listeners.delete(listener);
      removeEventListener("storage", other);
    };
  }, []);
  return charts;
}
