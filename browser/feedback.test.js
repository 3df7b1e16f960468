// The module against a real HTTP server and a page that is a stub. Run by `browser/test`, for the
// source and for the minified file.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { pathToFileURL } from "node:url";

// ---- a page ----------------------------------------------------------------------------------

const page = new EventTarget();
const beacons = [];
let takesBeacons = true;
let selected = "";

const stubs = {
  addEventListener: page.addEventListener.bind(page),
  document: { hidden: false },
  navigator: {
    sendBeacon(url, body) {
      assert.equal(typeof body, "string"); // text/plain: crosses origins without a preflight
      beacons.push({ url: String(url), ...JSON.parse(body) });
      return takesBeacons;
    },
  },
  getSelection: () => selected,
};
for (const [name, value] of Object.entries(stubs)) {
  Object.defineProperty(globalThis, name, { value, configurable: true });
}

function turn(hidden) {
  stubs.document.hidden = hidden;
  page.dispatchEvent(new Event("visibilitychange"));
}

function leave() {
  turn(true);
  page.dispatchEvent(new Event("pagehide"));
}

const globals = Object.getOwnPropertyNames(globalThis);
const source = process.env.FEEDBACK_MODULE ?? new URL("feedback.js", import.meta.url).pathname;
const { feedback, FeedbackError } = await import(pathToFileURL(source));

// ---- a service -------------------------------------------------------------------------------

/** The requests that arrived, and the answers to the next ones; 204 when there are none left. */
let arrived = [];
let answers = [];
let waiting = [];
let endpoint;

const server = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const { method, headers, url } = request;
  arrived.push({ method, headers, url, at: performance.now(), ...JSON.parse(body) });
  waiting.shift()?.();

  const answer = answers.shift() ?? 204;
  if (answer === "cut") return request.socket.destroy();
  if (typeof answer === "number") return response.writeHead(answer).end();
  const { status, headers: more = {}, problem, until } = answer;
  await until;
  const type = problem ? { "content-type": "application/problem+json" } : {};
  response.writeHead(status, { ...type, ...more }).end(problem && JSON.stringify(problem));
});

/** Resolves with the next request when it has arrived. */
const request = () =>
  new Promise((resolve) => waiting.push(() => resolve(arrived[arrived.length - 1])));

const sleep = (time) => new Promise((done) => setTimeout(done, time));
const documents = () => arrived.map(({ feedback }) => feedback);
const about = (options) => feedback("the-ticket", { endpoint, pause: 5, ...options });

const loose = [];
process.on("unhandledRejection", (error) => loose.push(error));

before(async () => {
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  endpoint = `http://127.0.0.1:${server.address().port}/feedback`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  arrived = [];
  answers = [];
  waiting = [];
  beacons.length = 0;
  takesBeacons = true;
  selected = "";
});
afterEach(async () => {
  turn(false);
  await sleep(5);
  assert.deepEqual(loose.splice(0), []);
});

// ---- the feedback that is sent ---------------------------------------------------------------

test("a thumb arrives with its ticket and an id", async () => {
  await about().thumbs(true);
  const [{ method, headers, ticket, id, feedback }] = arrived;
  assert.equal(method, "POST");
  assert.equal(headers["content-type"], "application/json");
  assert.equal(ticket, "the-ticket");
  assert.deepEqual(feedback, { rating: true });
  assert.match(id, /^\d+-\d+-\d+-\d+$/);
});

test("every method sends the feedback it is named after", async () => {
  const answer = about();
  await answer.thumbs(false);
  await answer.stars(4);
  await answer.comment("Albany, in fact");
  await answer.copied();
  await answer.regenerated();
  await answer.send({ edits: [{ value: "Albany" }], step1: { retry: true } });
  assert.deepEqual(documents(), [
    { rating: false },
    { stars: 4 },
    { comment: "Albany, in fact" },
    { copied: true, copied_share: 1 },
    { regenerated: true },
    { edits: [{ value: "Albany" }], step1: { retry: true } },
  ]);
});

test("null and an empty comment retract", async () => {
  const answer = about();
  await answer.thumbs(null);
  await answer.stars(null);
  await answer.comment("");
  assert.deepEqual(documents(), [{ rating: null }, { stars: null }, { comment: null }]);
});

test("feedback is sent as it was at the call, even if the object has changed since", async () => {
  const edited = { edits: [{ value: "Albany" }], none: undefined };
  const sent = about().send(edited);
  edited.edits[0].value = "Boston";
  await sent;
  assert.deepEqual(documents(), [{ edits: [{ value: "Albany" }] }]);
});

test("the endpoint is beside the module by default", async () => {
  const { fetch } = globalThis;
  const urls = [];
  globalThis.fetch = async (url) => {
    urls.push(String(url));
    return new Response(null, { status: 204 });
  };
  try {
    await feedback("the-ticket").thumbs(true);
  } finally {
    globalThis.fetch = fetch;
  }
  assert.deepEqual(urls, [new URL("feedback", pathToFileURL(source)).href]);
});

test("no newer browser is needed for the time limit of a request", async () => {
  const { setTimeout } = globalThis;
  const { timeout } = AbortSignal;
  delete AbortSignal.timeout;
  globalThis.setTimeout = (work, time) => setTimeout(work, time === 10_000 ? 50 : time);
  let answered;
  answers = [{ status: 204, until: new Promise((done) => (answered = done)) }];
  try {
    await about().thumbs(true);
  } finally {
    globalThis.setTimeout = setTimeout;
    AbortSignal.timeout = timeout;
    answered();
  }
  assert.equal(arrived.length, 2, "the first request was not answered in time");
  assert.equal(arrived[0].id, arrived[1].id);
});

test("options of fetch are passed on", async () => {
  await about({ request: { headers: { "x-csrf": "1" } } }).thumbs(true);
  assert.equal(arrived[0].headers["x-csrf"], "1");
  assert.equal(arrived[0].headers["content-type"], "application/json");
});

test("no global is defined", () => {
  assert.deepEqual(Object.getOwnPropertyNames(globalThis), globals);
});

// ---- trying again ----------------------------------------------------------------------------

test("a submission is sent until it has arrived, with one id", async () => {
  answers = [503, "cut", 429, 502, 504, 500, 204];
  await about().thumbs(true);
  assert.equal(arrived.length, 7);
  assert.equal(new Set(arrived.map(({ id }) => id)).size, 1);
});

test("pauses grow", async () => {
  answers = [503, 503, 503, 503];
  await about({ pause: 20 }).thumbs(true);
  const pauses = arrived.slice(1).map(({ at }, index) => at - arrived[index].at);
  [20, 40, 80, 160].forEach((least, index) => {
    const pause = pauses[index];
    assert(pause >= least - 2 && pause < 2 * least + 60, `${pause} ms, not ${least} ms or so`);
  });
});

test("Retry-After is waited for, in seconds or as a date", async () => {
  const date = () => new Date(Date.now() + 2000).toUTCString(); // a second to two: it has no parts
  for (const after of [() => "1", date]) {
    arrived = [];
    answers = [{ status: 503, headers: { "retry-after": after() } }];
    await about().thumbs(true);
    assert(arrived[1].at - arrived[0].at >= 900);
  }
});

test("a Retry-After that makes no sense leaves the pause as it is", async () => {
  const past = new Date(0).toUTCString();
  for (const after of ["soon", "-1", past]) {
    arrived = [];
    answers = [{ status: 503, headers: { "retry-after": after } }];
    await about({ pause: 30 }).thumbs(true);
    assert(arrived[1].at - arrived[0].at >= 28, after);
  }
});

test("a ticket over its budget keeps its submission, which is sent when there is room again", async () => {
  const over = { status: 429, headers: { "retry-after": "1" }, problem: { detail: "over budget" } };
  answers = [over, 204];
  await about().comment("kept");
  assert.deepEqual(documents(), [{ comment: "kept" }, { comment: "kept" }]);
  assert.equal(arrived[0].id, arrived[1].id);
  assert(arrived[1].at - arrived[0].at >= 900);
});

test("a submission that would have to wait for long is given up, and the next one is sent", async () => {
  const judge = about();
  for (const after of ["901", "86400", "1e99"]) {
    arrived = [];
    answers = [{ status: 429, headers: { "retry-after": after }, problem: { detail: "too many keys" } }];
    await assert.rejects(judge.send({ odd: 1 }), { status: 429, message: "too many keys" });
    assert.equal(arrived.length, 1);
    await judge.thumbs(true);
    assert.equal(arrived.length, 2);
  }
});

test("a refused submission is given up, with the problem document", async () => {
  const problem = { type: "about:blank", status: 410, title: "Gone", detail: "the ticket expired" };
  answers = [{ status: 410, problem }];
  await assert.rejects(about().thumbs(true), (error) => {
    assert(error instanceof FeedbackError && error instanceof Error);
    assert.equal(String(error), "FeedbackError: the ticket expired");
    assert.equal(error.status, 410);
    assert.deepEqual(error.problem, problem);
    return true;
  });
  assert.equal(arrived.length, 1);
});

test("a submission refused without a problem document is given up, too", async () => {
  answers = [400, { status: 404, problem: null }, { status: 403, problem: { title: "Forbidden" } }];
  const answer = about();
  await assert.rejects(answer.thumbs(true), { message: "HTTP 400", status: 400, problem: {} });
  await assert.rejects(answer.stars(3), { message: "HTTP 404", status: 404, problem: {} });
  await assert.rejects(answer.comment("?"), { message: "Forbidden", status: 403 });
  assert.equal(arrived.length, 3);
});

test("a submission without an answer is given up after all tries, and the next is sent", async () => {
  answers = ["cut", "cut", "cut"];
  const answer = about({ tries: 3 });
  const [thumbs, stars] = [answer.thumbs(true), answer.stars(4)];
  await assert.rejects(thumbs, (error) => {
    assert.equal(error.status, 0);
    assert.equal(error.message, "no answer");
    assert(error.cause instanceof TypeError);
    return true;
  });
  await stars;
  assert.deepEqual(documents().slice(2), [{ rating: true }, { stars: 4 }]);
});

// ---- a change of mind ------------------------------------------------------------------------

test("a change of mind is a submission of its own, after the first", async () => {
  const answer = about();
  await Promise.all([answer.thumbs(true), answer.stars(5)]);
  await answer.thumbs(false);
  assert.deepEqual(documents(), [{ rating: true }, { stars: 5 }, { rating: false }]);
  assert.equal(new Set(arrived.map(({ id }) => id)).size, 3);
});

test("one submission is sent after the other", async () => {
  let answered;
  answers = [{ status: 204, until: new Promise((done) => (answered = done)) }];
  const answer = about();
  const first = request();
  const thumbs = answer.thumbs(true);
  await first;
  const changed = answer.thumbs(false);
  await sleep(30);
  assert.equal(arrived.length, 1);
  answered();
  await Promise.all([thumbs, changed]);
  assert.deepEqual(documents(), [{ rating: true }, { rating: false }]);
});

test("a replaced submission is not sent again", async () => {
  answers = [503];
  const answer = about({ pause: 50 });
  const first = request();
  const thumbs = answer.thumbs(true);
  await first;
  const changed = answer.thumbs(false);
  await Promise.all([thumbs, changed]); // the first promise resolves with the second
  assert.deepEqual(documents(), [{ rating: true }, { rating: false }]);
  assert.notEqual(arrived[0].id, arrived[1].id);
});

test("the promise of a replaced submission rejects when its successor is refused", async () => {
  answers = [503, 403];
  const answer = about({ pause: 50 });
  const first = request();
  const thumbs = assert.rejects(answer.thumbs(true), { status: 403 });
  await first;
  await assert.rejects(answer.thumbs(false), { status: 403 });
  await thumbs;
});

test("only keys with a new value are replaced", async () => {
  answers = [503];
  const answer = about({ pause: 50 });
  const first = request();
  const both = answer.send({ rating: true, comment: "good" });
  await first;
  await Promise.all([both, answer.thumbs(null)]);
  assert.deepEqual(documents().slice(1), [{ comment: "good" }, { rating: null }]);
  assert.equal(arrived[0].id, arrived[1].id);
});

test("objects are merged by the service, so both are sent", async () => {
  answers = [503];
  const answer = about({ pause: 50 });
  const first = request();
  const one = answer.send({ step1: { retry: true } });
  await first;
  await Promise.all([one, answer.send({ step1: { model: "small" } })]);
  assert.deepEqual(documents().slice(1), [{ step1: { retry: true } }, { step1: { model: "small" } }]);
});

test("a comment is sent when typing has paused, and holds nothing up", async () => {
  const answer = about();
  const typed = [];
  for (const text of ["A", "Al", "Albany"]) {
    typed.push(answer.comment(text, 60));
    await sleep(15);
  }
  await answer.thumbs(true);
  await Promise.all(typed);
  assert.deepEqual(documents(), [{ rating: true }, { comment: "Albany" }]);
});

// ---- the page goes away ----------------------------------------------------------------------

test("unconfirmed submissions are sent by beacon, once, when the page goes away", async () => {
  let answered;
  answers = [{ status: 204, until: new Promise((done) => (answered = done)) }];
  const answer = about();
  const first = request();
  const sent = [answer.thumbs(true), answer.comment("Albany", 20)];
  await first;
  leave();
  assert.deepEqual(
    beacons.map(({ url, ticket, feedback }) => ({ url, ticket, feedback })),
    [
      { url: endpoint, ticket: "the-ticket", feedback: { rating: true } },
      { url: endpoint, ticket: "the-ticket", feedback: { comment: "Albany" } },
    ],
  );

  // The page has only been hidden: it goes on, with the same ids.
  answered();
  await Promise.all(sent);
  assert.deepEqual(
    arrived.map(({ id }) => id),
    beacons.map(({ id }) => id),
  );
  leave();
  assert.equal(beacons.length, 2);
});

test("a confirmed, refused or replaced submission is not sent by beacon", async () => {
  answers = [204, 403, 503];
  const answer = about({ pause: 50 });
  await answer.stars(1);
  await assert.rejects(answer.copied());
  const third = request();
  const thumbs = [answer.thumbs(true)];
  await third;
  thumbs.push(answer.thumbs(false));
  leave();
  assert.deepEqual(
    beacons.map(({ feedback }) => feedback),
    [{ rating: false }],
  );
  await Promise.all(thumbs);
});

test("a page that comes into view sends no beacon", async () => {
  const thumbs = about().thumbs(true);
  turn(false);
  assert.equal(beacons.length, 0);
  await thumbs;
});

test("a beacon that the browser didn't take is sent at the next occasion", async () => {
  takesBeacons = false;
  const thumbs = about().thumbs(true);
  turn(true);
  page.dispatchEvent(new Event("pagehide"));
  assert.equal(beacons.length, 2);
  assert.equal(beacons[0].id, beacons[1].id);
  await thumbs;
});

test("a beacon is sent again for a submission that has failed since", async () => {
  answers = [503, { status: 503, headers: { "retry-after": "1" } }];
  const first = request();
  const thumbs = about().thumbs(true);
  await first;
  const second = request();
  turn(true);
  await second;
  turn(false);
  turn(true);
  assert.equal(beacons.length, 2);
  await thumbs;
});

// ---- implicit signals ------------------------------------------------------------------------

class Element extends EventTarget {
  textContent = "The capital of New York is Albany.";
}

test("a copy is reported with its share, and again only when the share is larger", async () => {
  const element = new Element();
  about().watch(element);
  const copy = async (text) => {
    selected = text;
    element.dispatchEvent(new Event("copy"));
    await sleep(20);
  };
  await copy("");
  await copy("Albany");
  await copy("Albany");
  await copy("New");
  await copy(`Everything on the page and ${element.textContent}`);
  await copy(element.textContent);
  assert.deepEqual(documents(), [
    { copied: true, copied_share: 0.18 },
    { copied: true, copied_share: 1 },
  ]);
});

test("watching ends with a signal", async () => {
  const element = new Element();
  const end = new AbortController();
  about().watch(element, { signal: end.signal });
  end.abort();
  selected = "Albany";
  element.dispatchEvent(new Event("copy"));
  await sleep(20);
  assert.deepEqual(documents(), []);
});

test("a copy whose report is refused is ignored", async () => {
  answers = [403];
  const element = new Element();
  about().watch(element);
  selected = "Albany";
  const first = request();
  element.dispatchEvent(new Event("copy"));
  await first;
  await sleep(20);
  assert.equal(arrived.length, 1); // and `afterEach` sees no unhandled rejection
});
