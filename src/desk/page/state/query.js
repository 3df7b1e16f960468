// Answers of the API, requested again when the stored data changes.

import { useCallback, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { answer as ask } from "./api.js";
import { useChanges } from "./live.js";

/** A cache of the last answers, so that going back shows them at once. */
const MOST = 60;
const answers = new Map();

/**
 * After an answer of many bytes, changes of the data lead to the next request only when as much time has passed as
 * the answer takes at this rate, in bytes per ms. A small one follows at once.
 */
const RATE = 200;
const LONGEST_PAUSE = 30_000; // ms

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
  const waiting = useRef();

  if (shown.current.url !== url) {
    const known = answers.get(url);
    const before = shown.current;
    const canStay = before.family === family && url;
    shown.current = {
      url,
      family,
      answer: known ?? (canStay ? before.answer : undefined),
      isStale: !known && Boolean(canStay && before.answer),
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
      if (mine.again) refreshInTime();
    };
    const { answer: known } = shown.current;
    ask(url, controller.signal, known).then(
      (answer) => {
        keep(url, answer);
        const pause = answer === known ? 0 : Math.min(answer.bytes / RATE, LONGEST_PAUSE);
        done({ answer, next: performance.now() + pause });
      },
      // A refused request must not show the data of an earlier answer.
      (error) => error.name !== "AbortError" && done(error.status ? { error, answer: undefined } : { error }),
    );
  }, [url]);

  const refreshInTime = useCallback(() => {
    const wait = (shown.current.next ?? 0) - performance.now();
    if (wait <= 0) refresh();
    else waiting.current ??= setTimeout(() => {
      waiting.current = undefined;
      refresh();
    }, wait);
  }, [refresh]);

  useEffect(() => {
    refresh();
    return () => {
      asked.current?.controller.abort();
      asked.current = undefined;
      clearTimeout(waiting.current);
      waiting.current = undefined;
    };
  }, [refresh]);
  useChanges(refreshInTime);

  const { answer, error, isStale } = shown.current;
  const data = answer?.data;
  return { data, error, isStale, isLoading: Boolean(url) && !data && !error };
}
