// Requests to the desk's API, the page's only source of data.

import { SHARED, under } from "./route.js";
import { stretch } from "../pure/time.js";

const API = under("/api/v1");

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The URL of a request. */
export function endpoint(path, params) {
  const query = new URLSearchParams();
  for (const [name, value] of params instanceof URLSearchParams ? params : Object.entries(params ?? {})) {
    if (value !== undefined && value !== null && value !== "") query.append(name, value);
  }
  const text = query.toString();
  return `${API}/${path}${text ? `?${text}` : ""}`;
}

/** The parameters of the API for a view with these filters and time range. */
export function narrowed(params, more = {}, isClosed = false) {
  const asked = {};
  for (const name of SHARED) {
    if (name === "filter" || name === "service") asked[name] = params.get(name) ?? undefined;
  }
  return { ...asked, ...stretch(params, Date.now(), isClosed), ...more };
}

/** The `data` of an answer, as `answer` gives it. */
export const ask = async (url, signal) => (await answer(url, signal)).data;

/**
 * An answer: its `data`, the `tag` of its contents, and its `bytes`. `known` is an earlier one: if it is still the
 * answer, the desk sends nothing but that, and it is returned itself.
 */
export async function answer(url, signal, known) {
  let response;
  try {
    const tag = known?.tag ? { "if-none-match": known.tag } : {};
    response = await fetch(url, { signal, headers: { accept: "application/json", ...tag } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The desk does not answer. Is it running?", 0);
  }
  if (response.status === 304 && known) {
    await response.text(); // the end of the response, which has no body
    return known;
  }
  const body = await response.json().catch((error) => {
    // An answer that was cut off is an error, not an empty answer.
    if (response.ok || error.name === "AbortError") throw error;
    return {};
  });
  if (!response.ok) throw new ApiError(body.error ?? `HTTP ${response.status}`, response.status);
  const { headers } = response;
  return { data: body, tag: headers.get("etag"), bytes: Number(headers.get("content-length")) || 0 };
}
