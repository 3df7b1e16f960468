// What is shown instead of what can't be.

import { Component, html } from "../vendor/htm-preact.js";

/** An answer that was refused or did not come. */
export function Problem({ error }) {
  return html`<div class="problem" role="alert">
    <strong>${error.status ? "This could not be answered" : "No answer"}</strong>
    <p>${error.message}</p>
  </div>`;
}

/** A mistake of ours in one view leaves the others usable; `at` is what is shown, by which it may end. */
export class Trouble extends Component {
  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }

  componentDidUpdate({ at }) {
    if (this.state.error && at !== this.props.at) this.setState({ error: undefined });
  }

  render({ children }, { error }) {
    // Elements of their own: of a view that failed half way, all has to go.
    return error
      ? html`<div key="problem"><${Problem} error=${{ status: 1, message: String(error.message ?? error) }} /></div>`
      : html`<div key="view">${children}</div>`;
  }
}

/** Nothing is there; what to do about it. */
export function Empty({ title, children }) {
  return html`<div class="empty"><h2>${title}</h2>${children}</div>`;
}

/** The place of rows that are on their way. */
export function Loading({ rows = 8 }) {
  return html`<div class="loading" role="status"><span class="hidden">Loading</span>
    ${Array.from({ length: rows }, (_, at) => html`<div class="ghost" key=${at}></div>`)}
  </div>`;
}
