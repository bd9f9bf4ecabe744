// The form's presets: the recipes of the documentation, as `GET /compress/options` lists them.
import { html } from "./html.js";
import { fillIn } from "./recipe-body.js";

const NO_RECIPE = ["model", "name", "priority"];

/** The choice, and what it did, told to screen readers as well. @param {any[]} presets */
export const presetField = (presets) => html`<div class="field">
  <label for="preset">Preset</label>
  <select id="preset" @change=${(/** @type {Event} */ event) => choose(event, presets)}>
    <option value="">none: your own recipe</option>
    ${presets.map((each) => html`<option>${each.name}</option>`)}
  </select>
  <p class="soft small" id="preset-said" role="status"></p>
</div>`;

/** @param {Event} event @param {any[]} presets */
function choose(event, presets) {
  const select = /** @type {HTMLSelectElement} */ (event.target);
  const form = /** @type {HTMLFormElement} */ (select.form);
  const chosen = presets.find((each) => each.name === select.value);
  if (!chosen) return say(form, "");
  fillIn(form, chosen.recipe);
  // What is rarely changed may be what a preset is about: then it is shown.
  const more = /** @type {HTMLDetailsElement} */ (form.querySelector("details"));
  if ([...more.querySelectorAll("input, select")].some(isUnusual)) more.open = true;
  say(form, `${chosen.description} The fields are filled in and can be changed.`);
}

/** A recipe that was changed is no preset any more, which can then be chosen anew. @param {Event} event */
export function changed(event) {
  const field = /** @type {HTMLInputElement} */ (event.target);
  const form = /** @type {HTMLFormElement} */ (field.form);
  const select = /** @type {HTMLSelectElement} */ (form.querySelector("#preset"));
  if (field === select || NO_RECIPE.includes(field.name) || !select.value) return;
  say(form, `${select.value}, changed.`);
  select.value = "";
}

/** Whether a field says something else than by default. @param {any} field */
function isUnusual(field) {
  if (field instanceof HTMLSelectElement) return field.selectedIndex > 0;
  return field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
}

/** @param {HTMLFormElement} form @param {string} text */
function say(form, text) {
  /** @type {HTMLElement} */ (form.querySelector("#preset-said")).textContent = text;
}
