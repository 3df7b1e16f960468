// What a chat service of a small company sent in 30 days: the same at every call, but for the time.
//
//   node tests/page/data.mjs http://127.0.0.1:4318     sends it to a desk

import { pathToFileURL } from "node:url";
import { carrier, id, send, span } from "./otlp.mjs";

export const DAY = 86_400_000;
const HOUR = 3_600_000;
export const MARKUP = "<script>window.hacked = true</script><img src=x onerror=\"window.hacked = true\">";

/** Mulberry32: small, and the same everywhere. */
function randomness(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const QUESTIONS = [
  ["What is the capital of New York?", "The capital of New York is New York City.", "The capital of New York is Albany."],
  ["How do I return a parcel?", "Print the label from your account, stick it on the box and hand it in at any post office within 30 days.", "Print the label from your account, stick it on the box and hand it in at any parcel shop within 14 days."],
  ["Can I change my delivery address after ordering?", "Yes. Open the order, choose Change address, and confirm by e-mail.", "Yes, until the parcel is packed. Open the order, choose Change address, and confirm by e-mail."],
  ["Wie lange dauert der Versand nach Zürich?", "Der Versand nach Zürich dauert drei bis fünf Werktage.", "Der Versand nach Zürich dauert zwei bis vier Werktage."],
  ["返品の送料は誰が負担しますか?", "返品の送料はお客様のご負担となります。", "不良品の場合、返品の送料は当社が負担します。"],
  ["Do you ship to islands?", "We ship to all islands at no extra charge.", "We ship to most islands; a surcharge of 6 € applies."],
  ["My discount code does not work", "Codes can be used once, and not together with a sale. Please check the date on the voucher.", "Codes can be used once. Yours has expired on the last day of May; here is a new one: SPRING."],
  ["Is the warranty two or three years?", "The warranty is two years from the day of purchase.", "The warranty is three years from the day of purchase for products bought after January 2024."],
];
const GOOD = [
  "Exactly what I needed, thank you!", "Fast and correct.", "Très utile, merci 🙌",
  "Short and to the point. I wish every answer was like this one.", "Works 👍",
];
const BAD = [
  "The model hallucinated the capital of New York",
  "This is the policy of last year. Since March it is 14 days, and only parcel shops take them.",
  "Too long; I had to read three paragraphs before I found the one sentence that I was looking for, and then it turned out that the sentence was about another product. Please put the answer first and the explanation after it, as your colleague on the phone does.",
  "Falsch: es sind vier Tage.", "回答が間違っています", "It did not answer my question.", "Slow, and wrong.",
];
const PEOPLE = ["ada", "grace", "linus", "margaret", "donald", "barbara"];
const PLANS = ["free", "team", "enterprise"];

/** All spans, the latest about ten minutes before `now`. */
export function demo(now = Date.now()) {
  const random = randomness(7);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const spans = [];
  const identity = (digits) => Array.from({ length: digits / 8 }, () => id(Math.floor(random() * 2 ** 32), 8)).join("");

  let session, left = 0;
  for (let turn = 0; turn < 420; turn += 1) {
    const age = 30 * (1 - turn / 419) ** 1.05;
    const day = Math.floor(age);
    // Two days on which nothing came: a gap, not zero.
    if (day === 11 || day === 12) continue;
    const start = now - 10 * 60_000 - age * DAY - random() * 2 * HOUR * (turn < 415 ? 1 : 0.01);
    const version = age < 12 && random() < 0.75 ? "1.1" : "1.0";
    const isNew = version === "1.1";
    const service = turn % 9 === 4 ? "search" : "chat";
    if (left <= 0) {
      session = random() < 0.75 ? `s-${identity(8)}` : undefined;
      left = 1 + Math.floor(random() * 4);
    }
    left -= 1;
    const [question, wrong, right] = pick(QUESTIONS);
    const isGood = random() < (isNew ? 0.82 : 0.6);
    const answer = isGood ? right : wrong;
    const trace = identity(32), root = identity(16), retrieve = identity(16), model = identity(16);
    const total = 400 + random() ** 3 * (isNew ? 2600 : 5200);
    const common = { trace, service, version, session };

    const said = {};
    const roll = random();
    if (roll < 0.62) {
      const feedback = {};
      if (random() < 0.8) feedback.rating = isGood ? random() < 0.93 : random() < 0.12;
      if (random() < 0.4) feedback.stars = Math.max(1, Math.min(5, Math.round((isGood ? 4.3 : 2.1) + (random() - 0.5) * 2)));
      if (random() < 0.35) feedback.comment = isGood ? pick(GOOD) : pick(BAD);
      if (!isGood && random() < 0.4) feedback.ground_truth = right;
      if (random() < 0.06) feedback.edits = [{ value: right.split(" ").slice(0, 3).join(" "), kind: "replace" }, { value: right, kind: "rewrite" }];
      if (random() < 0.1) feedback.step1 = { retry: random() < 0.3, latency: "fine" };
      if (Object.keys(feedback).length) said.feedback = feedback;
    }
    if (random() < 0.5) said.metrics = { faithfulness: Math.round((isGood ? 0.75 + random() * 0.25 : 0.2 + random() * 0.5) * 1000) / 1000, tokens: Math.round(200 + random() * 900) };
    said.metadata = { plan: pick(PLANS), ab: { arm: random() < 0.5 ? "a" : "b" } };
    said.user_properties = { user_id: pick(PEOPLE) };
    said.inputs = { question };
    said.outputs = { answer };
    said.config = { model: isNew ? "large-2" : "large-1", temperature: 0.2 };

    const failed = random() < 0.03;
    spans.push(span({
      ...common, name: service === "search" ? "POST /search" : "POST /chat", span: root, start, duration: total, kind: 2,
      attributes: { "http.route": `/${service}`, "http.request.method": "POST", "http.response.status_code": failed ? 500 : 200 },
      error: failed ? "upstream timed out" : undefined,
    }));
    spans.push(span({
      ...common, name: "retrieve", span: retrieve, parent: root, start: start + 8, duration: total * 0.18,
      attributes: { "db.system.name": "postgresql", "retrieval.documents": 5 },
      events: [{ name: "cache miss", time: start + 12, attributes: { level: "DEBUG", "cache.name": "passages" } }],
    }));
    spans.push(span({
      ...common, name: "answer", span: model, parent: root, start: start + total * 0.2, duration: total * 0.78,
      attributes: { "gen_ai.request.model": isNew ? "large-2" : "large-1", "gen_ai.usage.output_tokens": 80 + Math.floor(random() * 400) },
      said,
      events: failed ? [{ name: "exception", time: start + total * 0.9, attributes: { "exception.type": "Timeout", "exception.message": "upstream timed out" } }] : [],
      error: failed ? "upstream timed out" : undefined,
    }));
    spans.push(span({
      ...common, name: "model call", span: identity(16), parent: model, start: start + total * 0.25, duration: total * 0.6, kind: 3,
    }));
    if (random() < 0.4) {
      spans.push(span({ ...common, name: "moderate", span: identity(16), parent: root, start: start + total * 0.985, duration: total * 0.012 }));
    }

    const about = { trace, span: model };
    const late = (time, more) => spans.push(carrier({ about, service, version, session, span: identity(16), time, ...more }));
    const by = pick(PEOPLE);
    if (random() < 0.16) late(start + total + 40_000, { said: { feedback: { rating: isGood, comment: isGood ? pick(GOOD) : pick(BAD) } }, by });
    if (random() < 0.08) {
      late(start + total + 90_000, { said: { feedback: { rating: !isGood } }, by });
      late(start + total + 150_000, { said: { feedback: { rating: isGood, comment: "I have thought about it again" } }, by: pick(PEOPLE) });
    }
    if (random() < 0.04) late(start + total + 200_000, { said: {}, cleared: ["feedback.comment", "feedback.stars"], by });
    if (session && random() < 0.14) {
      spans.push(carrier({
        about: { trace: identity(32) }, scope: "session", session, service, version, span: identity(16), time: start + total + 300_000,
        said: { feedback: { resolved: isGood, csat: isGood ? 5 : 2, ...(random() < 0.4 ? { comment: isGood ? "Solved in one go" : "I had to call in the end" } : {}) } }, by,
      }));
    }
    if (turn % 97 === 50) {
      spans.push(carrier({ about, scope: "trace", service, version, span: identity(16), time: start + total + 60_000, said: { feedback: { escalated: true, reviewer: "support" } }, by }));
    }
  }

  // What should never become anything but text.
  const trace = identity(32), root = identity(16);
  const start = now - 4 * HOUR;
  spans.push(span({
    name: MARKUP, trace, span: root, start, duration: 812, service: "chat", version: "1.1", session: "s-markup",
    attributes: { [`key ${MARKUP}`]: MARKUP },
    events: [{ name: MARKUP, time: start + 5, attributes: { note: MARKUP } }],
    error: MARKUP,
    said: {
      feedback: { rating: false, comment: MARKUP, ground_truth: `safe ${MARKUP}`, [MARKUP]: MARKUP },
      metadata: { plan: MARKUP }, inputs: { question: MARKUP }, outputs: { answer: MARKUP }, metrics: { faithfulness: MARKUP },
    },
  }));
  // Targets that never came, and one that does not say what it is about.
  for (const [at, said] of [{ rating: true }, { rating: false, comment: "Where is my answer?" }, { stars: 3 }].entries()) {
    spans.push(carrier({ about: { trace: id(0xabc0 + at, 32), span: id(0xdef0 + at, 16) }, span: identity(16), time: now - (at + 1) * 5 * HOUR, said: { feedback: said }, by: "ada" }));
  }
  spans.push(carrier({ about: { trace: identity(32), span: identity(16) }, links: [], span: identity(16), time: now - 2 * DAY, said: { feedback: { rating: true } } }));
  return spans;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const endpoint = process.argv[2] ?? "http://127.0.0.1:4318";
  const spans = demo();
  await send(endpoint, spans);
  console.log(`${spans.length} spans sent to ${endpoint}`);
}
