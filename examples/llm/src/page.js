// Asks, shows the answer, and sends what its reader thinks of it.
import { feedback } from "./feedback.js";

const form = document.querySelector("form");
/** The ticket of the last answer goes with the next question, which so joins the session. */
let previous;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = form.question.value.trim();
  const item = document.querySelector("template").content.firstElementChild.cloneNode(true);
  const [up, down] = item.querySelectorAll("button");
  const state = item.querySelector("output");
  item.querySelector(".question").textContent = question;
  document.querySelector("ol").append(item);
  const response = await fetch("ask", {
    method: "POST",
    headers: { "content-type": "application/json", ...(previous && { "feedback-ticket": previous }) },
    body: JSON.stringify({ question }),
  });
  if (!response.ok) {
    state.textContent = `No answer: ${await response.text()}`;
    return;
  }
  const { answer, ticket } = await response.json();
  previous = ticket;
  item.querySelector(".answer").textContent = answer;
  const judge = feedback(ticket);
  for (const button of [up, down]) {
    button.addEventListener("click", () => {
      // A thumb that is pressed again is taken back.
      const isPressed = button.getAttribute("aria-pressed") !== "true";
      for (const each of [up, down]) each.setAttribute("aria-pressed", String(each === button && isPressed));
      judge.thumbs(isPressed ? button.value === "true" : null).then(
        () => (state.textContent = isPressed ? "Saved" : "Taken back"),
        (error) => (state.textContent = `Not saved: ${error.message}`),
      );
    });
  }
});
