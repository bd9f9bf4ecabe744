// Pieces that all pages use.
import { html, nothing, render } from "./html.js";

/**
 * A page: what the shell starts, shows and stops.
 * @typedef {{
 *   title: string,
 *   start: () => void,
 *   stop: () => void,
 *   view: () => unknown,
 * }} Page
 */

/**
 * What a page gets from the shell.
 * @typedef {{
 *   update: () => void,
 *   config: { version: string, auth: string, max_body_bytes: number, max_image_bytes: number },
 * }} Shell
 */

/** @param {unknown} error @returns {string} */
export const sentence = (error) => (error instanceof Error ? error.message : String(error));

/**
 * Try to change something.
 * @param {() => Promise<unknown>} change
 * @param {string} said what to say once it is done
 * @returns {Promise<{ text: string, kind: "good" | "error" }>} for a notice
 */
export async function attempt(change, said) {
  try {
    await change();
    return { text: said, kind: "good" };
  } catch (error) {
    return { text: sentence(error), kind: "error" };
  }
}

/**
 * One sentence that says what went wrong, or what was done.
 * @param {string | null | undefined} message
 * @param {"error" | "good" | "plain"} [kind]
 */
export function notice(message, kind = "error") {
  if (!message) return nothing;
  return html`<p class="notice ${kind}" role=${kind === "error" ? "alert" : "status"}>${message}</p>`;
}

/**
 * What to do where there is nothing to see yet.
 * @param {string} title
 * @param {unknown} hint
 */
export const empty = (title, hint) =>
  html`<div class="empty"><p class="empty-title">${title}</p><div>${hint}</div></div>`;

/** @param {string} command */
export const command = (command) => html`<pre class="command" tabindex="0"><code>${command}</code></pre>`;

/** A word with a colour that says the same. @param {string} word @param {string} [kind] */
export const chip = (word, kind = word) => html`<span class="chip ${kind.replaceAll(" ", "-")}">${word}</span>`;

/** A wide table that scrolls by itself. @param {string} label @param {unknown} table */
export const scroll = (label, table) =>
  html`<div class="scroll" role="region" tabindex="0" aria-label=${label}>${table}</div>`;

/**
 * A field of a form in a dialog.
 * @typedef {{
 *   name: string, label: string, type?: string, value?: string | number, help?: string,
 *   options?: string[], min?: number, max?: number, step?: number | "any", required?: boolean,
 * }} Field
 */

/**
 * Ask for a confirmation, with fields where more is needed.
 * @param {{ title: string, text: string, action: string, danger?: boolean, fields?: Field[] }} asked
 * @returns {Promise<Record<string, string> | null>} the fields' values; null where it was called off
 */
export function ask({ title, text, action, danger = false, fields = [] }) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "dialog-title");
  document.body.append(dialog);
  render(
    html`<form method="dialog">
      <h2 id="dialog-title">${title}</h2>
      <p>${text}</p>
      ${fields.map(field)}
      <div class="actions">
        <button type="button" @click=${() => dialog.close()}>Cancel</button>
        <button type="submit" class=${danger ? "danger" : "primary"} value="yes">${action}</button>
      </div>
    </form>`,
    dialog,
  );
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
      const values = Object.fromEntries(new FormData(form).entries());
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? /** @type {Record<string, string>} */ (values) : null);
    });
    dialog.showModal();
  });
}

/** @param {Field} given */
function field(given) {
  const id = `dialog-${given.name}`;
  const help = given.help ? `${id}-help` : nothing;
  return html`<div class="field">
    <label for=${id}>${given.label}</label>
    ${given.options
      ? html`<select id=${id} name=${given.name} aria-describedby=${help}>
          ${given.options.map((o) => html`<option ?selected=${o === given.value}>${o}</option>`)}
        </select>`
      : html`<input id=${id} name=${given.name} type=${given.type ?? "text"} .value=${String(given.value ?? "")}
          min=${given.min ?? nothing} max=${given.max ?? nothing} step=${given.step ?? nothing}
          ?required=${given.required} aria-describedby=${help} autocomplete="off">`}
    ${given.help ? html`<small id=${help}>${given.help}</small>` : nothing}
  </div>`;
}

/**
 * Read something again and again while the page is shown and looked at.
 *
 * `now` is for whoever has just changed what is read: a reading under way belongs to what was before. It
 * is given up, so that its answer cannot come later than the new one's.
 * @param {(signal: AbortSignal) => Promise<void>} act changes nothing any more once the signal is aborted
 * @param {number} everyMs
 * @returns {{ now: () => void, stop: () => void }}
 */
export function repeat(act, everyMs) {
  let stopped = false;
  /** @type {AbortController | null} */
  let running = null;
  const begin = async () => {
    if (stopped || document.hidden) return;
    const mine = new AbortController();
    running = mine;
    try {
      await act(mine.signal);
    } finally {
      if (running === mine) running = null;
    }
  };
  const giveUp = () => {
    running?.abort();
    running = null;
  };
  const next = () => {
    if (running === null) void begin();
  };
  const timer = setInterval(next, everyMs);
  document.addEventListener("visibilitychange", next);
  next();
  return {
    now: () => {
      giveUp();
      void begin();
    },
    stop: () => {
      stopped = true;
      giveUp();
      clearInterval(timer);
      document.removeEventListener("visibilitychange", next);
    },
  };
}
