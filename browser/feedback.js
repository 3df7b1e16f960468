/*! tracing-feedback, Apache-2.0 OR MIT */

/**
 * What a user thinks of an answer, on its way from a page to `POST /feedback`.
 *
 *     import { feedback } from "/feedback.js";
 *
 *     const about = feedback(ticket);           // the ticket came with the answer
 *     await about.thumbs(true);                 // has arrived, or throws a FeedbackError
 *     about.comment("Albany, in fact", 1000);   // sent once typing has paused for a second
 *     about.watch(element);                     // tells when the answer is copied from
 *
 * Each call is a submission with an id of its own. Sent again, because nobody knows whether it has
 * arrived, it keeps its id and counts once. A change of mind is the next submission, and `null`
 * takes back what was said. Nothing is stored, no cookie is set, no global is defined.
 *
 * @module
 */

/**
 * @typedef {object} Options
 * @property {string | URL} [endpoint] where to send to; by default `feedback`, beside this module
 * @property {number} [tries] how often a submission is sent before it is given up; 10
 * @property {number} [pause] milliseconds before the second try, and twice as many before each
 *   further one, up to a minute; 1000. What `Retry-After` asks for is waited in any case, and up to
 *   one more pause is left to chance, so that a thousand pages don't come back as one.
 * @property {RequestInit} [request] more options of `fetch`, such as `{credentials: "include"}`
 *
 * @typedef {object} Submission
 * @property {string} id
 * @property {Record<string, unknown>} content what is left to say of it
 * @property {boolean} [saved] the browser has taken charge of it, since it was last sent
 * @property {(value?: any) => void} resolve
 * @property {(error: FeedbackError) => void} reject
 */

const TIME_LIMIT = 10_000;
const LONGEST_PAUSE = 60_000;
const LONGEST_TIMER = 2 ** 31 - 1;

/**
 * One for each answer with something unconfirmed: saves that when the page goes away.
 *
 * @type {Set<() => void>}
 */
const savers = new Set();

// `pagehide` too: not every browser says of a page that is left that it is hidden.
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
 * Feedback on one answer. Make one for each answer and keep it: it sends one thing after the other,
 * so the last word wins.
 *
 * Every method but `watch` gives a promise: it resolves when the service has what was said, and
 * throws a `FeedbackError` when it was refused, or not answered after all tries.
 *
 * @param {string} ticket what the service issued with the answer
 * @param {Options} [options]
 */
export function feedback(
  ticket,
  { endpoint = new URL("feedback", import.meta.url), tries = 10, pause = 1000, request = {} } = {},
) {
  /**
   * What is unconfirmed, in the order in which it was said.
   *
   * @type {Set<Submission>}
   */
  const queue = new Set();
  let turn = Promise.resolve();
  let mostCopied = 0;

  /** @param {Submission} submission */
  const body = ({ id, content }) => JSON.stringify({ ticket, id, feedback: content });

  // The page may come back and go on as if nothing had happened: what arrives twice counts once.
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
      try {
        const response = await fetch(endpoint, {
          ...request,
          method: "POST",
          headers: { ...request.headers, "content-type": "application/json" },
          body: body(submission),
          signal: AbortSignal.timeout(TIME_LIMIT),
        });
        if (!response.ok) {
          const { status } = response;
          const after = /** @type {any} */ (response.headers.get("retry-after"));
          asked = isNaN(after) ? Date.parse(after) - Date.now() : after * 1000;
          error = new FeedbackError(status, Object(await response.json().catch(() => {})));
          if (status < 500 && status != 429) failed = tries; // it would be refused again
        }
      } catch (cause) {
        error = new FeedbackError(0, {}, cause);
      }

      if (error && ++failed < tries) {
        const own = Math.min(pause * 2 ** (failed - 1), LONGEST_PAUSE);
        const time = (asked > own ? asked : own) + own * Math.random();
        await new Promise((done) => setTimeout(done, Math.min(time, LONGEST_TIMER)));
      } else {
        queue.delete(submission);
        if (error) submission.reject(error);
        else submission.resolve();
      }
    }
    if (!queue.size) savers.delete(save);
  };

  /**
   * Says anything: a JSON object, which is merged into what was said before. `null` retracts a key.
   *
   * @param {object} said
   * @param {number} [wait] milliseconds to hold it back for. What is said about the same keys
   *   meanwhile replaces it, and a page that goes away sends it at once.
   * @returns {Promise<void>}
   */
  const send = (said, wait) => {
    const submission = /** @type {Submission} */ ({
      // 128 random bits; `crypto.randomUUID` is missing from pages that came by plain http.
      id: crypto.getRandomValues(new Uint32Array(4)).join("-"),
      content: JSON.parse(JSON.stringify(said)),
    });
    /** @type {Promise<void>} */
    const outcome = new Promise((resolve, reject) => {
      submission.resolve = resolve;
      submission.reject = reject;
    });

    // What is said anew need not be said the old way any more, so that can't arrive too late either.
    // (Not so with an object: it is merged into what stands under its key.)
    for (const older of queue) {
      for (const key in submission.content) {
        if (JSON.stringify(submission.content[key])[0] != "{") delete older.content[key];
      }
      if (JSON.stringify(older.content) == "{}") {
        queue.delete(older);
        older.resolve(outcome);
      }
    }

    queue.add(submission);
    savers.add(save);
    setTimeout(() => (turn = turn.then(() => deliver(submission))), wait);
    return outcome;
  };

  /**
   * The answer was copied: all of it, or a share. Says so again only when it was more.
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
     * A thumb up, a thumb down, or neither any more: `{rating: true}`, `false`, `null`.
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
     * In the user's own words: `{comment: "…"}`. An empty text retracts the comment.
     *
     * @param {string} text
     * @param {number} [wait] as for `send`: with a second, call it at every keystroke
     */
    comment: (text, wait) => send({ comment: text || null }, wait),

    /** The user has asked for another answer instead: `{regenerated: true}`. */
    regenerated: () => send({ regenerated: true }),

    /**
     * Tells by itself when something of the answer is copied, and how much, but never what:
     * `{copied: true, copied_share: 0.4}`. What can't be told is let go.
     *
     * @param {HTMLElement} element that shows the answer
     * @param {AddEventListenerOptions} [options] such as `{signal}`, which ends it
     */
    watch: (element, options) =>
      element.addEventListener(
        "copy",
        () => copied(`${getSelection()}`.length / element.textContent.length).catch(() => {}),
        options,
      ),
  };
}
