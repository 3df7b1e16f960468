// The API of the desk, which is all the page knows.

import { SHARED } from "./route.js";
import { stretch } from "../pure/time.js";

const BASE = "/api/v1";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The address of an answer. */
export function endpoint(path, params) {
  const query = new URLSearchParams();
  for (const [name, value] of params instanceof URLSearchParams ? params : Object.entries(params ?? {})) {
    if (value !== undefined && value !== null && value !== "") query.append(name, value);
  }
  const text = query.toString();
  return `${BASE}/${path}${text ? `?${text}` : ""}`;
}

/** What the API is asked for a view that is narrowed by these parameters. */
export function narrowed(params, more = {}, isClosed = false) {
  const asked = {};
  for (const name of SHARED) {
    if (name === "filter" || name === "service") asked[name] = params.get(name) ?? undefined;
  }
  return { ...asked, ...stretch(params, Date.now(), isClosed), ...more };
}

export async function ask(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The desk does not answer. Is it still running?", 0);
  }
  const body = await response.json().catch((error) => {
    // What was cut off while it was read is no empty answer.
    if (response.ok || error.name === "AbortError") throw error;
    return {};
  });
  if (!response.ok) throw new ApiError(body.error ?? `HTTP ${response.status}`, response.status);
  return body;
}
