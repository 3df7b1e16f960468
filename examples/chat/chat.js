// The page of the example: asks, shows the answer, sends what its reader thinks of it, and shows
// what a collector has got. All that concerns feedback is in `judge`.

import { feedback } from "./feedback.js";

const find = (selector, within = document) => within.querySelector(selector);
const clone = (name) => find(`#${name}`).content.firstElementChild.cloneNode(true);

/** The last answer: its ticket goes with the next question, which so joins the conversation. */
let previous;
/** The answer that is looked at: its trace and span. */
let shown;

// ---- ask -------------------------------------------------------------------------------------

const form = find("#ask");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const question = form.question.value.trim();
  if (question) ask(question).then((asked) => asked && form.reset());
});

for (const button of document.querySelectorAll("#suggestions button")) {
  button.addEventListener("click", () => ask(button.textContent));
}

async function ask(question) {
  form.setAttribute("aria-busy", "true");
  find("#trouble").textContent = "";
  try {
    const answer = await json("ask", {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(previous && { "feedback-ticket": previous.ticket }),
      },
      body: JSON.stringify({ question }),
    });
    previous = answer;
    addTurn(question, answer);
    find("#suggestions").hidden = true;
    return true;
  } catch (error) {
    find("#trouble").textContent = `No answer: ${error.message}. Please try again.`;
    return false;
  } finally {
    form.removeAttribute("aria-busy");
    form.question.focus();
  }
}

function addTurn(question, answer) {
  const turn = clone("turn");
  find(".question", turn).textContent = question;
  find(".answer", turn).textContent = answer.answer;
  find(".controls", turn).setAttribute("aria-label", `What do you think of “${answer.answer}”`);
  judge(turn, question, answer);
  for (const type of ["focusin", "pointerdown"]) {
    turn.addEventListener(type, () => show(turn, answer));
  }
  find("#turns").append(turn);
  show(turn, answer);
  turn.scrollIntoView({ block: "nearest" });
  find("#news").textContent = `Answer: ${answer.answer}`;
}

// ---- judge -----------------------------------------------------------------------------------

function judge(turn, question, { answer, ticket, span_id }) {
  const about = feedback(ticket);
  const [up, down] = [find(".up", turn), find(".down", turn)];
  const stars = find(".stars", turn);
  const comment = find("textarea", turn);
  const state = find(".state", turn);

  // Only the last submission is shown: an earlier one may be confirmed after it.
  let last;
  const tell = (sent, done = "Saved") => {
    last = sent;
    state.textContent = "Saving …";
    state.classList.remove("bad");
    sent.then(
      () => sent == last && (state.textContent = done),
      (error) => {
        state.textContent = `Not saved: ${error.message}`;
        state.classList.add("bad");
      },
    );
  };

  // A thumb that is pressed again is taken back.
  const thumb = (button, other, value) => {
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") != "true";
      button.setAttribute("aria-pressed", pressed);
      other.setAttribute("aria-pressed", false);
      tell(about.thumbs(pressed ? value : null), pressed ? "Saved" : "Taken back");
    });
  };
  thumb(up, down, true);
  thumb(down, up, false);

  for (let count = 1; count <= 5; count++) {
    const star = clone("star");
    const input = find("input", star);
    input.name = `stars-${span_id}`;
    input.value = count;
    input.addEventListener("change", () => tell(about.stars(count)));
    find(".unseen", star).textContent = count == 1 ? "1 star" : `${count} stars`;
    stars.append(star);
  }

  comment.addEventListener("input", () => tell(about.comment(comment.value.trim(), 1000)));

  about.watch(find(".answer", turn));
  find(".copy", turn).addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(answer);
      tell(about.copied(), "Copied");
    } catch {
      state.textContent = "The browser doesn't let this page copy. Select the answer instead.";
    }
  });

  find(".again", turn).addEventListener("click", () => {
    tell(about.regenerated());
    ask(question);
  });
}

// ---- what arrived ----------------------------------------------------------------------------

function show(turn, answer) {
  if (shown == answer) return;
  shown = answer;
  find("#turns [aria-current]")?.removeAttribute("aria-current");
  turn.setAttribute("aria-current", "true");
  find("#about").replaceChildren("About the answer ", tag("q", answer.answer));
  look();
}

let seen = "";

async function look() {
  if (!shown || document.hidden) return;
  const { trace_id, span_id } = shown;
  try {
    const arrived = await json(`arrived?${new URLSearchParams({ trace_id, span_id })}`);
    const text = JSON.stringify([span_id, arrived]);
    if (span_id == shown.span_id && text != seen) {
      seen = text;
      render(arrived);
    }
  } catch (error) {
    find("#count").textContent = `Can't look: ${error.message}.`;
    seen = "";
  }
}

setInterval(look, 1000);
document.addEventListener("visibilitychange", look);

function render({ feedback, spans, sent_to }) {
  if (sent_to) {
    find("#count").textContent = `It was sent to ${sent_to}: look there.`;
    return;
  }
  const said = Object.keys(feedback).length;
  find("#count").textContent = said
    ? `${plural(said, "key")} of feedback from ${plural(spans.length, "span")}`
    : "No feedback yet";
  find("#spans").replaceChildren(
    ...(said ? [table("The feedback, folded", feedback)] : []),
    ...spans.map(({ name, attributes }) => {
      const late = attributes["tracing_feedback.late"] ? tag("span", "late") : "";
      return table([`Span `, tag("code", name), " ", late], attributes);
    }),
  );
}

function table(caption, attributes) {
  const rows = Object.entries(attributes).map(([key, value]) => {
    const head = tag("th", key);
    head.scope = "row";
    const cell = tag("td", typeof value == "string" ? value : JSON.stringify(value));
    cell.className = typeof value;
    const row = tag("tr", head, cell);
    row.classList.toggle("feedback", key.startsWith("feedback."));
    return row;
  });
  return tag("table", tag("caption", ...[caption].flat()), tag("tbody", ...rows));
}

// ---- helpers ---------------------------------------------------------------------------------

function tag(name, ...children) {
  const element = document.createElement(name);
  element.append(...children);
  return element;
}

const plural = (count, what) => `${count} ${what}${count == 1 ? "" : "s"}`;

async function json(url, options) {
  const response = await fetch(url, options);
  if (!response.ok) throw new Error(`the service answers ${response.status}`);
  return response.json();
}
