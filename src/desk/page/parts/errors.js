// Errors, empty lists, and placeholders while loading.

import { Component, html } from "../vendor/htm-preact.js";

/** A request that failed: refused by the desk, or without an answer. */
export function ErrorMessage({ error }) {
  return html`<div class="problem" role="alert">
    <strong>${error.status ? "Can't run this query" : "Can't reach the desk"}</strong>
    <p>${error.message}</p>
    ${!error.status && html`<button onClick=${() => location.reload()}>Retry</button>`}
  </div>`;
}

/** Shows an error in a view in its place, so that the other views stay usable. A new `at` tries again. */
export class ErrorBoundary extends Component {
  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }

  componentDidUpdate({ at }) {
    if (this.state.error && at !== this.props.at) this.setState({ error: undefined });
  }

  render({ children }, { error }) {
    // Different keys: everything of a view that failed half way is removed.
    return error
      ? html`<div key="problem"><${ErrorMessage} error=${{ status: 1, message: String(error.message ?? error) }} /></div>`
      : html`<div key="view">${children}</div>`;
  }
}

/** An empty list, with what to do. */
export function Empty({ title, children }) {
  return html`<div class="empty"><h2>${title}</h2>${children}</div>`;
}

/** Placeholders for rows that are loading. */
export function Loading({ rows = 8 }) {
  return html`<div class="loading" role="status"><span class="hidden">Loading</span>
    ${Array.from({ length: rows }, (_, at) => html`<div class="ghost" key=${at}></div>`)}
  </div>`;
}
