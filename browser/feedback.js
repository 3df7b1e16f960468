/*! tracing-feedback, Apache-2.0 OR MIT */

/**
 * Sends a user's feedback on an answer from a page to `POST /feedback`.
 *
 *     import { feedback } from "/feedback.js";
 *
 *     const about = feedback(ticket);           // the ticket came with the answer
 *     await about.thumbs(true);                 // has arrived, or rejects with a FeedbackError
 *     about.comment("Albany, in fact", 1000);   // sent once typing has paused for a second
 *     about.watch(element);                     // reports when text of the answer is copied
 *
 * Each call is a submission with an id of its own. A retry keeps the id, so that a submission that
 * arrives twice counts once. A later submission overrides earlier ones, and `null` retracts a value.
 * Nothing is stored, no cookie is set, no global is defined.
 *
 * @module
 */

/**
 * @typedef {object} Options
 * @property {string | URL} [endpoint] where to send to; by default `feedback`, beside this module, and in a
 *   bundle `/feedback` of the page's own host
 * @property {number} [tries] how often a submission is sent before it is given up; 10
 * @property {number} [pause] milliseconds before the second try, and twice as many before each
 *   further one, up to a minute; 1000. A longer `Retry-After` is waited for instead, and a random
 *   time of up to one more pause is added, so that many pages don't retry at the same moment. A
 *   submission that is to wait for more than 15 minutes is given up.
 * @property {RequestInit} [request] more options of `fetch`, such as `{credentials: "include"}`
 *
 * @typedef {object} Submission
 * @property {string} id
 * @property {Record<string, unknown>} content its feedback, without keys that were replaced since
 * @property {boolean} [saved] whether the browser has accepted it as a beacon since it was last sent
 * @property {(value?: any) => void} accept resolves its promise
 * @property {(error: FeedbackError) => void} refuse rejects it
 */

const { stringify } = JSON;

// In a bundle it is the address of a chunk, or of a file on the machine that made the bundle, or missing in a classic
// script. A variable, because bundlers take `new URL("…", import.meta.url)` for a file to be copied.
const here = import.meta.url || "";
// The service that serves it under another path puts its name here.
const beside = here.replace(/(\/feedback)(\.min)?\.js.*/, "$1");
const isBundled =
  // @ts-ignore: vite's development server, which looks for exactly this
  import.meta.hot ||
  beside == here ||
  (here[0] == "f" && globalThis.location); // of webpack: `file:`

const TIME_LIMIT = 10_000;
const LONGEST_PAUSE = 60_000;
const LONGEST_WAIT = 900_000;

/**
 * One function for each answer with unconfirmed submissions: sends them as beacons when the page goes
 * away.
 *
 * @type {Set<() => void>}
 */
const savers = new Set();

// `pagehide` too: not every browser sends `visibilitychange` to a page that is left.
for (const type of ["visibilitychange", "pagehide"]) {
  globalThis.addEventListener?.(type, () => {
    if (type == "pagehide" || document.hidden) savers.forEach((save) => save());
  });
}

/** Why a submission was given up. */
export class FeedbackError extends Error {
  name = "FeedbackError";

  /**
   * @param {number} status the answer's HTTP status; 0 where there was no answer
   * @param {Record<string, any>} problem its problem document (RFC 9457); `{}` without one
   * @param {unknown} [cause] what `fetch` threw where there was no answer
   */
  constructor(status, problem, cause) {
    super(problem.detail || problem.title || (status ? `HTTP ${status}` : "no answer"), { cause });
    this.status = status;
    this.problem = problem;
  }
}

/**
 * Feedback on one answer. Make one object for each answer and keep it: it sends one submission after
 * the other, so that the last one counts.
 *
 * Every method but `watch` returns a promise. It resolves when the service has accepted the
 * submission, and rejects with a `FeedbackError` when the submission was refused, or not answered
 * after all tries.
 *
 * @param {string} ticket the ticket that the service issued with the answer
 * @param {Options} [options]
 */
export function feedback(
  ticket,
  { endpoint = isBundled ? "/feedback" : beside, tries = 10, pause = 1000, request = {} } = {},
) {
  /**
   * The unconfirmed submissions, in the order of the calls.
   *
   * @type {Set<Submission>}
   */
  const queue = new Set();
  let turn = Promise.resolve();
  let mostCopied = 0;

  /** @param {Submission} submission */
  const body = ({ id, content }) => stringify({ ticket, id, feedback: content });

  // Submissions stay in the queue, since the page may come back. A duplicate counts once.
  const save = () => {
    for (const submission of queue) {
      submission.saved ||= navigator.sendBeacon(endpoint, body(submission));
    }
  };

  /** @param {Submission} submission */
  const deliver = async (submission) => {
    for (let failed = 0; queue.has(submission); ) {
      let error;
      let asked = 0;
      submission.saved = false;
      // `AbortSignal.timeout` is missing in browsers of 2021.
      const limit = new AbortController();
      const timer = setTimeout(() => limit.abort(), TIME_LIMIT);
      try {
        const response = await fetch(endpoint, {
          ...request,
          method: "POST",
          headers: { ...request.headers, "content-type": "application/json" },
          body: body(submission),
          signal: limit.signal,
        });
        if (!response.ok) {
          const { status } = response;
          const after = /** @type {any} */ (response.headers.get("retry-after"));
          asked = isNaN(after) ? Date.parse(after) - Date.now() : after * 1000;
          error = new FeedbackError(status, Object(await response.json().catch(() => {})));
          // It would be refused again, or the page would wait for too long.
          if ((status < 500 && status != 429) || asked > LONGEST_WAIT) failed = tries;
        }
      } catch (cause) {
        error = new FeedbackError(0, {}, cause);
      }
      clearTimeout(timer);

      if (error && ++failed < tries) {
        const own = Math.min(pause * 2 ** (failed - 1), LONGEST_PAUSE);
        const time = (asked > own ? asked : own) + own * Math.random();
        await new Promise((done) => setTimeout(done, time));
      } else {
        queue.delete(submission);
        if (error) submission.refuse(error);
        else submission.accept();
      }
    }
    if (!queue.size) savers.delete(save);
  };

  /**
   * Sends any feedback: a JSON object, which is merged into earlier feedback. `null` retracts a key.
   *
   * @param {object} feedback
   * @param {number} [wait] milliseconds by which to delay it. A submission with the same keys
   *   meanwhile replaces it, and it is sent at once when the page goes away.
   * @returns {Promise<void>}
   */
  const send = (feedback, wait) => {
    const submission = /** @type {Submission} */ ({
      // 128 random bits; `crypto.randomUUID` is missing in pages loaded over plain http.
      id: crypto.getRandomValues(new Uint32Array(4)).join("-"),
      content: JSON.parse(stringify(feedback)),
    });
    /** @type {Promise<void>} */
    const outcome = new Promise((resolve, reject) => {
      submission.accept = resolve;
      submission.refuse = reject;
    });

    // Removes the new keys from older submissions, so that an old value can't arrive after the new
    // one. Not so for an object: it is merged into the value of its key.
    for (const older of queue) {
      for (const key in submission.content) {
        if (stringify(submission.content[key])[0] != "{") delete older.content[key];
      }
      if (stringify(older.content) == "{}") {
        queue.delete(older);
        older.accept(outcome);
      }
    }

    queue.add(submission);
    savers.add(save);
    setTimeout(() => (turn = turn.then(() => deliver(submission))), wait);
    return outcome;
  };

  /**
   * Reports that the answer was copied: all of it, or a share. A share is sent only if it is larger
   * than all before.
   *
   * @param {number} [share] from 0 to 1
   * @returns {Promise<void>}
   */
  const copied = async (share = 1) => {
    const rounded = Math.min(Math.ceil(share * 100) / 100, 1);
    if (rounded > mostCopied) await send({ copied: true, copied_share: (mostCopied = rounded) });
  };

  return {
    send,
    copied,

    /**
     * A thumb up, a thumb down, or neither: `{rating: true}`, `false`, `null`.
     *
     * @param {boolean | null} up
     */
    thumbs: (up) => send({ rating: up }),

    /**
     * Stars, of as many as the page shows: `{stars: 4}`.
     *
     * @param {number | null} count
     */
    stars: (count) => send({ stars: count }),

    /**
     * A comment in the user's words: `{comment: "…"}`. An empty text retracts the comment.
     *
     * @param {string} text
     * @param {number} [wait] as for `send`: with a second, call it at every keystroke
     */
    comment: (text, wait) => send({ comment: text || null }, wait),

    /** The user has asked for another answer instead: `{regenerated: true}`. */
    regenerated: () => send({ regenerated: true }),

    /**
     * Reports by itself when text of the answer is copied: how much, but never which text:
     * `{copied: true, copied_share: 0.4}`. Errors are ignored.
     *
     * @param {HTMLElement} element the element that shows the answer
     * @param {AddEventListenerOptions} [options] such as `{signal}`, which ends the reports
     */
    watch: (element, options) =>
      element.addEventListener(
        "copy",
        () => copied(`${getSelection()}`.length / element.textContent.length).catch(() => {}),
        options,
      ),
  };
}
