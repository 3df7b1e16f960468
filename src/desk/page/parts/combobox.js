// A text field that suggests: the pattern of the ARIA authoring practices.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";

let count = 0;
const PAUSE = 120; // ms without typing before suggestions are requested

/**
 * `load(text)` gives options `{value, label, note}`. `onInput` gets the typed
 * text, `onPick` the chosen option. With `isFree`, Enter accepts the typed text, as a choice or by submitting the form.
 */
export function Combobox({ label, value, placeholder, load, onInput, onPick, isFree = false, autofocus = false, isLabelHidden = false }) {
  const id = useRef();
  id.current ??= `combobox-${(count += 1)}`;
  const [text, setText] = useState(value ?? "");
  const [options, setOptions] = useState([]);
  const [active, setActive] = useState(-1);
  const [isOpen, setOpen] = useState(false);
  const input = useRef();
  const asked = useRef(0);
  const timer = useRef();

  // `value` may be what was reported earlier: it must not replace what was typed since.
  const reported = useRef();
  useEffect(() => {
    if (!reported.current?.has(value)) setText(value ?? "");
  }, [value]);
  useEffect(() => {
    if (autofocus) input.current.focus();
    return () => clearTimeout(timer.current);
  }, []);

  const suggest = (typed, rest = PAUSE) => {
    clearTimeout(timer.current);
    const mine = (asked.current += 1);
    timer.current = setTimeout(async () => {
      const found = await load(typed).catch(() => []);
      if (mine !== asked.current) return;
      setOptions(found);
      setActive(-1);
      setOpen(true);
    }, rest);
  };
  const report = (typed) => {
    reported.current = (reported.current ?? new Set()).add(typed);
    onInput?.(typed);
  };
  const close = () => {
    asked.current += 1;
    clearTimeout(timer.current);
    setOpen(false);
    setActive(-1);
  };
  const pick = (option) => {
    setText(option.value);
    close();
    onPick?.(option);
  };
  const keys = {
    ArrowDown: () => (isOpen ? setActive((active + 1) % Math.max(1, options.length)) : suggest("", 0)),
    ArrowUp: () => isOpen && setActive((active <= 0 ? options.length : active) - 1),
    Escape: () => {
      if (isOpen) close();
      else setText(value ?? "");
    },
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter" && !event.isComposing) {
      if (isOpen && options[active]) {
        event.preventDefault();
        pick(options[active]);
      } else if (isFree && event.target.form) {
        close(); // the form has the typed text already
      } else if (isFree) {
        event.preventDefault();
        pick({ value: text });
      } else if (options.some((option) => option.value === text)) {
        event.preventDefault();
        pick(options.find((option) => option.value === text));
      }
      return;
    }
    if (!keys[event.key] || (event.key === "Escape" && !isOpen)) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  };
  useEffect(() => {
    if (active >= 0) document.getElementById(`${id.current}-${active}`)?.scrollIntoView({ block: "nearest" });
  }, [active]);

  const isShown = isOpen && options.length > 0;
  return html`<div class="combobox field">
    <label for=${id.current} class=${isLabelHidden ? "hidden" : ""}>${label}</label>
    <input dir="auto" id=${id.current} ref=${input} type="text" role="combobox" autocomplete="off" spellcheck=${false}
      aria-autocomplete="list" aria-expanded=${String(isShown)} aria-controls=${isShown ? `${id.current}-list` : undefined}
      aria-activedescendant=${isShown && active >= 0 ? `${id.current}-${active}` : undefined}
      placeholder=${placeholder} value=${text}
      onInput=${(event) => { setText(event.target.value); report(event.target.value); suggest(event.target.value); }}
      onFocus=${(event) => event.target.select()}
      onClick=${() => !isOpen && suggest("", 0)}
      onBlur=${() => { close(); if (!onInput) setText(value ?? ""); }} onKeyDown=${onKeyDown} />
    ${isShown && html`<ul role="listbox" id=${`${id.current}-list`} aria-label=${label}>
      ${options.map((option, at) => html`<li key=${`${option.value} ${option.note}`} id=${`${id.current}-${at}`} role="option"
        aria-selected=${String(at === active)} onMouseDown=${(event) => { event.preventDefault(); pick(option); }}>
        <span class="option" dir="auto">${option.label ?? option.value}</span>
        ${option.note !== undefined && html`<span class="note">${option.note}</span>`}
      </li>`)}
    </ul>`}
  </div>`;
}
