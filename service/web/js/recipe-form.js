// The form of a compression job. What it offers comes from the gateway: targets, schemes, data, defaults.
import { html, nothing } from "./html.js";
import { changed, presetField } from "./presets.js";
import { bodyOf, retarget, SCOPE, TARGETS } from "./recipe-body.js";

/**
 * @param {unknown} model the field that chooses one
 * @param {any} options of `GET /compress/options`
 * @param {(body: any) => void} check
 * @param {(body: any) => void} submit
 */
export function recipeForm(model, options, check, submit) {
  const { properties, $defs } = options.recipe;
  const sent = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const body = bodyOf(/** @type {HTMLFormElement} */ (event.target));
    const pressed = /** @type {HTMLButtonElement | null} */ (event.submitter);
    (pressed?.value === "check" ? check : submit)(body);
  };
  const steps = (/** @type {string} */ section) => $defs[section].properties.steps.default;
  return html`<form class="recipe" @submit=${sent} @input=${changed}>
    ${presetField(options.presets)}
    <div class="row">
      ${model}
      <div class="field"><label for="target">Target</label>
        <select id="target" name="target" @change=${(/** @type {any} */ event) => retarget(event.target.form)}>
          ${options.targets.map((/** @type {string} */ t) => html`<option value=${t}>${t.replaceAll("_", " ")}</option>`)}
        </select></div>
      <div class="field"><label for="value" id="value-label">${TARGETS.flops[0]}</label>
        <input id="value" name="value" type="number" min="0.001" max="0.999" step="any" value="0.5" required aria-describedby="value-help">
        <small id="value-help">${TARGETS.flops[2]}</small></div>
    </div>
    <div class="row">
      ${select("scheme", "Scheme", properties.scheme.enum, "trained: learned gates choose the heads; slower.")}
      ${select("layout", "Layout", properties.layout.enum, "uniform loads without this package.")}
      ${select("priority", "Priority", ["normal", "high", "low"])}
    </div>
    <fieldset><legend>Scope</legend>${Object.entries(SCOPE).map(([name, label]) => box("scope", name, label, true))}</fieldset>
    ${data("calibration", "Calibrate on", options.datasets, $defs.Calibration.properties.samples.default, "questions")}
    ${data("evaluation", "Evaluate on", options.datasets, $defs.Evaluation.properties.samples.default, "questions of each; 0: none")}
    <details><summary>More</summary><div class="row">
      <div class="field"><label for="name">Name of the result</label>
        <input id="name" name="name" pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*" maxlength="64" autocomplete="off" placeholder="by itself"></div>
      ${number("recovery", "Steps of recovery training", steps("Recovery"), 0)}
      ${number("recovery-rate", "Learning rate of recovery", $defs.Recovery.properties.learning_rate.default, 0, "At its peak.", "any")}
      ${number("training", "Steps of the gates' training", steps("Training"), 1, "Of the scheme trained.")}
      ${number("validation", "Validation questions of each set", $defs.Evaluation.properties.validation_samples.default, 50, "Which max accuracy drop is held against.")}
      ${number("new_tokens", "Tokens of answer", properties.new_tokens.default, 1, "Of the request whose latency is the target.")}
      ${number("round_to", "Ranks and widths, multiples of", properties.round_to.default, 1, "16 suits CPUs, 64 GPUs.")}
      ${number("seed", "Seed", properties.seed.default, 0)}
      ${select("allocation", "Allocation", properties.allocation.enum, "exact: a knapsack by dynamic programming; slower.")}
    </div>
    ${box("low_rank_attention", "on", "Factor attention too; off cuts it by whole heads, and the KV cache with it", properties.low_rank_attention.default)}
    </details>
    <div class="actions">
      <button type="submit" value="check">Check</button>
      <button type="submit" class="primary" value="start">Start</button>
    </div>
    <p class="soft small">Families: ${options.families.join("; ")}.</p>
  </form>`;
}

/** @param {string} name @param {string} label @param {string[]} values @param {string} [help] */
const select = (name, label, values, help) => html`<div class="field"><label for=${name}>${label}</label>
  <select id=${name} name=${name} aria-describedby=${help ? `${name}-help` : nothing}>${values.map((value) => html`<option>${value}</option>`)}</select>
  ${help ? html`<small id="${name}-help">${help}</small>` : nothing}</div>`;

/** @param {string} name @param {string} label @param {number} value @param {number} min @param {string} [help] @param {string} [step] */
const number = (name, label, value, min, help, step = "1") => html`<div class="field"><label for=${name}>${label}</label>
  <input id=${name} name=${name} type="number" min=${min} step=${step} required .defaultValue=${String(value)} aria-describedby=${help ? `${name}-help` : nothing}>
  ${help ? html`<small id="${name}-help">${help}</small>` : nothing}</div>`;

/** @param {string} name @param {string} value @param {string} label @param {boolean} on */
const box = (name, value, label, on) => html`<label class="box"><input type="checkbox" name=${name} value=${value} .defaultChecked=${on}> ${label}</label>`;

/** @param {string} name @param {string} legend @param {string[]} datasets @param {number} samples @param {string} unit */
const data = (name, legend, datasets, samples, unit) => html`<fieldset><legend>${legend}</legend>
  ${datasets.map((each, i) => box(name, each, each, i === 0))}
  <label class="box grow"><span class="sr">Other sets to ${legend.toLowerCase()}</span>
    <input name="${name}-own" autocomplete="off" placeholder="or a path: FILE.jsonl, vqav2:DIR"></label>
  <label class="box"><input class="count" name="${name}-samples" type="number" min="0" step="1" required .defaultValue=${String(samples)}> ${unit}</label>
</fieldset>`;
