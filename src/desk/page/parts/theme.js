// The theme: light, dark, or the setting of the system.

import { html, useState } from "../vendor/htm-preact.js";

const KEY = "feedback-desk.theme";
const CHOICES = [["", "Theme: system"], ["light", "Theme: light"], ["dark", "Theme: dark"]];

export function Theme() {
  const [chosen, setChosen] = useState(document.documentElement.dataset.theme ?? "");
  const choose = (event) => {
    const { value } = event.target;
    if (value) document.documentElement.dataset.theme = value;
    else delete document.documentElement.dataset.theme;
    if (value) localStorage.setItem(KEY, value);
    else localStorage.removeItem(KEY);
    setChosen(value);
    dispatchEvent(new Event("themechange"));
  };
  return html`<label class="theme"><span class="hidden">Theme</span>
    <select value=${chosen} onChange=${choose}>
      ${CHOICES.map(([value, name]) => html`<option key=${value} value=${value} selected=${chosen === value}>${name}</option>`)}
    </select>
  </label>`;
}
