// The numbers that come first: what the compressed model gains and costs, as ratios.
import { gain, NONE, percent, points } from "./format.js";
import { html, nothing } from "./html.js";

/** @param {any} view of `GET /comparison` @param {any} pair the alias's comparison, or nothing */
export function headline(view, pair) {
  const { ratios } = view;
  return html`<section class="cards" aria-label="Headline">
    ${ratios.prompt_flops === null ? nothing : cost(ratios.prompt_flops, "FLOPs before the first token", "fewer", "more")}
    ${ratios.params === null ? nothing : cost(ratios.params, "parameters", "fewer", "more")}
    ${accuracy(view)}
    ${speed(ratios.p50, "p50 latency", view)}
    ${ratios.first_token_p50 === null ? nothing : speed(ratios.first_token_p50, "time to first token", view)}
    ${pair ? agreement(pair.agreement) : nothing}
  </section>`;
}

/** @param {string} value @param {string} label @param {string} detail @param {string} [kind] */
const card = (value, label, detail, kind = "") =>
  html`<div class="card ${kind}"><b>${value}</b><span>${label}</span><small>${detail}</small></div>`;

/** @param {number} by @param {string} what @param {string} better @param {string} worse */
function cost(by, what, better, worse) {
  const { value, word } = gain(by, better, worse);
  return card(value, `${word} ${what}`, `${percent(by)} of the original's`);
}

/** @param {number | null} by @param {string} what @param {any} view */
function speed(by, what, view) {
  if (by === null) return card(NONE, what, "needs requests to both models in this time");
  const same = Math.abs(by - 1) < 0.005;
  const { value, word } = gain(by, "lower", "higher");
  const n = Math.min(view.original.window.answered, view.compressed.window.answered);
  return card(value, same ? `the same ${what}` : `${word} ${what}`, `live, at least ${n} requests each`);
}

/** The dataset on which the compressed model loses most. @param {any} view */
function accuracy(view) {
  const paired = Object.entries(view.accuracy_difference);
  if (paired.length) {
    const [name, worst] = paired.reduce((a, b) => (a[1].value <= b[1].value ? a : b));
    const where = paired.length > 1 ? `${name}, the worst of ${paired.length}` : name;
    return card(points(worst.value), "points of accuracy",
      `${where}: ${points(worst.low)} to ${points(worst.high)} at 95 %`);
  }
  return card(NONE, "accuracy", "not measured of both on the same questions");
}

/** @param {any} found */
function agreement(found) {
  if (!found.n) return card(NONE, "agreement in shadow", "no pair of greedy answers yet");
  return card(percent(found.value), "agreement in shadow",
    `${percent(found.low)} to ${percent(found.high)}, ${found.n} pairs`);
}
