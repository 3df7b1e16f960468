// Answers of the API, requested again when the stored data changes.

import { useCallback, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { ask } from "./api.js";
import { useChanges } from "./live.js";

/** A cache of the last answers, so that going back shows them at once. */
const MOST = 60;
const answers = new Map();

function keep(url, answer) {
  answers.delete(url);
  answers.set(url, answer);
  if (answers.size > MOST) answers.delete(answers.keys().next().value);
}

/**
 * `data` is the answer. While the next one is loading it is the answer before (then `isStale`), so that the
 * layout does not jump, if both have the same `family`.
 */
export function useAnswer(url, family = url?.split("?")[0]) {
  const [, redraw] = useState(0);
  const shown = useRef({});
  const asked = useRef();

  if (shown.current.url !== url) {
    const known = answers.get(url);
    const before = shown.current;
    const canStay = before.family === family && url;
    shown.current = {
      url,
      family,
      data: known ?? (canStay ? before.data : undefined),
      isStale: !known && Boolean(canStay && before.data),
    };
  }

  const refresh = useCallback(() => {
    if (!url) return;
    // One request at a time: a change meanwhile leads to another request afterwards.
    if (asked.current?.url === url) {
      asked.current.again = true;
      return;
    }
    asked.current?.controller.abort();
    const controller = new AbortController();
    const mine = (asked.current = { url, controller, again: false });
    const done = (change) => {
      if (asked.current !== mine || shown.current.url !== url) return;
      asked.current = undefined;
      shown.current = { ...shown.current, isStale: false, error: undefined, ...change };
      redraw((count) => count + 1);
      if (mine.again) refresh();
    };
    ask(url, controller.signal).then(
      (data) => {
        keep(url, data);
        done({ data });
      },
      // A refused request must not show the data of an earlier answer.
      (error) => error.name !== "AbortError" && done(error.status ? { error, data: undefined } : { error }),
    );
  }, [url]);

  useEffect(() => {
    refresh();
    return () => {
      asked.current?.controller.abort();
      asked.current = undefined;
    };
  }, [refresh]);
  useChanges(refresh);

  const { data, error, isStale } = shown.current;
  return { data, error, isStale, isLoading: Boolean(url) && !data && !error };
}
