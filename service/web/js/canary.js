// An alias's shadow and canary on the page Compare: where it is, why, and the two buttons.
import { api, segment } from "./api.js";
import { duration, when } from "./format.js";
import { html, nothing } from "./html.js";
import { startCanary } from "./alias-dialogs.js";
import { ask, chip } from "./ui.js";

/** @typedef {(change: () => Promise<unknown>, said: string) => Promise<void>} Act */

const VERDICTS = { holds: "holds", regressed: "regressed", undecided: "not yet shown" };

/** @param {any} shown of `GET /aliases/NAME` @param {any} view @param {Act} act */
export function canaryPanel({ alias, comparison }, view, act) {
  const { canary } = alias;
  return html`<section class="panel" aria-labelledby="rollout">
    <div class="section-head">
      <h2 id="rollout">Roll-out of ${alias.name}</h2>
      <div class="actions">${buttons(alias, view, act)}</div>
    </div>
    ${canary ? running(canary, comparison) : resting(alias)}
    ${comparison && (canary || alias.shadow) ? criteria(comparison.criteria) : nothing}
  </section>`;
}

/** @param {any} alias @param {any} view @param {Act} act */
function buttons(alias, view, act) {
  const candidate = alias.canary?.candidate ?? alias.shadow?.candidate
    ?? (view && alias.targets.length === 1 && alias.targets[0].model === view.original.name ? view.compressed.name : null);
  const canBegin = candidate && !alias.canary && alias.targets.length === 1;
  return html`
    ${canBegin ? html`<button type="button" @click=${() => startCanary(alias.name, candidate, act)}>Start canary…</button>` : nothing}
    ${candidate ? html`<button type="button" class="primary" @click=${() => promote(alias.name, candidate, act)}>Promote…</button>` : nothing}
    ${alias.canary || alias.former.length
      ? html`<button type="button" class="danger" @click=${() => rollBack(alias, act)}>Roll back…</button>` : nothing}`;
}

/** @param {string} name @param {string} model @param {Act} act */
async function promote(name, model, act) {
  const said = await ask({
    title: `Promote ${model}?`, action: "Promote",
    text: `From now on ${model} answers every request to ${name}. Roll back restores what is now.`,
    fields: [{ name: "reason", label: "Why, for the history" }],
  });
  if (said === null) return;
  await act(() => api("POST", `/aliases/${segment(name)}/promote`, { body: { model, reason: said.reason } }),
    `${model} answers everything that asks for ${name}.`);
}

/** @param {any} alias @param {Act} act */
async function rollBack(alias, act) {
  const text = alias.canary
    ? `The canary ends, and ${alias.canary.reference} answers every request to ${alias.name} again.`
    : `${alias.name} goes back to: ${alias.former.at(-1).targets.map((/** @type {any} */ t) => t.model).join(", ")}.`;
  const said = await ask({
    title: `Roll back ${alias.name}?`, text, action: "Roll back", danger: true,
    fields: [{ name: "reason", label: "Why, for the history" }],
  });
  if (said === null) return;
  await act(() => api("POST", `/aliases/${segment(alias.name)}/rollback`, { body: said }), `${alias.name} was rolled back.`);
}

/** @param {any} canary @param {any} comparison */
function running(canary, comparison) {
  const { steps } = canary.rules;
  return html`
    <p>${chip("canary", "running")} <b>${canary.candidate}</b> answers <b>${steps[canary.step]} %</b>, compared
      with ${canary.reference}; at this step for ${duration(Date.now() / 1000 - canary.step_started)}.</p>
    <ol class="steps" aria-label="Steps of the canary">
      ${steps.map((/** @type {number} */ step, /** @type {number} */ i) => html`<li class=${i < canary.step ? "done" : i === canary.step ? "now" : ""}
        aria-current=${i === canary.step ? "step" : nothing}>${step} %</li>`)}
    </ol>
    ${comparison?.reason ? html`<p class="soft" aria-live="polite">${comparison.reason}</p>` : nothing}`;
}

/** @param {any} alias */
function resting(alias) {
  const last = alias.last_canary;
  const word = last && { promoted: "promoted", rolled_back: "rolled back", stopped: "stopped" }[/** @type {"promoted"} */ (last.outcome)];
  return html`
    <p>${alias.targets.map((/** @type {any} */ t) => html`<b>${t.model}</b> ${alias.targets.length > 1 ? `(weight ${t.weight}) ` : ""}`)}
      ${alias.targets.length > 1 ? "answer" : "answers"} ${alias.name}.
      ${alias.shadow ? html`${Math.round(100 * alias.shadow.share)} % of the requests are copied to <b>${alias.shadow.candidate}</b>.` : nothing}</p>
    ${last ? html`<p>${chip(word, last.outcome)} The last canary, ${last.candidate}, ended at ${last.percent} %
      on ${when(last.ended)}: <span class="reason">${last.reason}</span></p>` : nothing}`;
}

/** @param {any[]} all */
const criteria = (all) => html`<ul class="criteria">
  ${all.map((each) => html`<li>${chip(VERDICTS[/** @type {"holds"} */ (each.verdict)], each.verdict)} ${each.sentence}</li>`)}
</ul>`;
