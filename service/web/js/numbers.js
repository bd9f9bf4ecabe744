// Every number of the two models, with its interval and ratio.
import { interval, ms, NONE, rate, ratio, short } from "./format.js";
import { html, nothing, svg } from "./html.js";
import { scroll } from "./ui.js";

/** @typedef {[string, unknown, unknown, unknown]} Row */

/** @param {any} view @param {any} pair */
export function numbers(view, pair) {
  const { original: a, compressed: b } = view;
  return html`<section aria-labelledby="numbers">
    <h2 id="numbers">Numbers</h2>
    ${scroll("Numbers of both models", html`<table class="numbers">
      <thead><tr><th scope="col"><span class="sr">Measure</span></th><th scope="col">${a.name}</th>
        <th scope="col">${b.name}</th><th scope="col">ratio</th></tr></thead>
      ${group("Accuracy, 95 % intervals", accuracy(a, b, view.accuracy_difference))}
      ${group("Live", live(a, b, view.ratios))}
      ${pair ? group("On the same requests", shadow(pair)) : nothing}
      ${group(`Cost of ${a.flops.visual_tokens} visual and ${a.flops.text_tokens} text tokens`, cost(a, b, view.ratios))}
    </table>`)}
  </section>`;
}

/** @param {string} title @param {Row[]} rows */
const group = (title, rows) => html`<tbody>
  <tr class="group"><th colspan="4" scope="rowgroup">${title}</th></tr>
  ${rows.map(([name, x, y, by]) => html`<tr><th scope="row">${name}</th><td>${x}</td><td>${y}</td><td>${by}</td></tr>`)}
</tbody>`;

/** @param {any} a @param {any} b @param {any} difference @returns {Row[]} */
function accuracy(a, b, difference) {
  const names = [...new Set([...Object.keys(a.accuracy), ...Object.keys(b.accuracy)])].sort();
  if (!names.length) return [["not measured yet", NONE, NONE, NONE]];
  return names.map((name) => {
    const x = a.accuracy[name], y = b.accuracy[name], d = difference[name];
    const n = (y ?? x).n;
    return [
      html`${name} <span class="soft">n = ${n}</span>`,
      html`${interval(x)} ${whisker(x, "original")}`,
      html`${interval(y)} ${whisker(y, "compressed")}`,
      d ? html`<span title="paired difference, points">${(100 * d.value).toFixed(1)} pt</span>` : x && y ? ratio(y.value / x.value) : NONE,
    ];
  });
}

/** An interval on a line from 0 to 1. @param {any} found @param {string} side */
function whisker(found, side) {
  if (!found) return nothing;
  const at = (/** @type {number} */ value) => 2 + 56 * value;
  return html`<svg class="whisker ${side}" viewBox="0 0 60 10" width="60" height="10" aria-hidden="true">
    ${svg`<path class="scale" d="M2 5H58"/><path class="range" d="M${at(found.low)} 5H${at(found.high)}"/>
    <circle cx=${at(found.value)} cy="5" r="3"/>`}</svg>`;
}

/** @param {any} a @param {any} b @param {any} ratios @returns {Row[]} */
function live(a, b, ratios) {
  const x = a.window, y = b.window;
  return [
    ["latency, p50", ms(x.p50_s), ms(y.p50_s), ratio(ratios.p50)],
    ["latency, p95", ms(x.p95_s), ms(y.p95_s), ratio(ratios.p95)],
    ["time to first token, p50", ms(x.first_token_p50_s), ms(y.first_token_p50_s), ratio(ratios.first_token_p50)],
    ["time to first token, p95", ms(x.first_token_p95_s), ms(y.first_token_p95_s), NONE],
    ["tokens/s of one request", rate(x.tokens_per_request_s), rate(y.tokens_per_request_s), ratio(ratios.tokens_per_request_s)],
    ["tokens/s, all", rate(x.tokens_per_s), rate(y.tokens_per_s), NONE],
    ["requests/s", rate(x.requests_per_s), rate(y.requests_per_s), NONE],
    ["answered, failed", `${x.answered}, ${x.failed}`, `${y.answered}, ${y.failed}`, NONE],
    ["ready workers", a.ready_workers, b.ready_workers, NONE],
  ];
}

/** @param {any} pair @returns {Row[]} */
function shadow(pair) {
  const { reference: x, candidate: y } = pair;
  const rateOf = (/** @type {any} */ e) => (e.n ? `${(100 * e.value).toFixed(2)} %` : NONE);
  return [
    ["answers to clients, to copies", `${x.served}, ${x.mirrored}`, `${y.served}, ${y.mirrored}`, NONE],
    ["error rate", rateOf(x.errors), rateOf(y.errors), NONE],
    ["latency of requests that both got, p50", ms(x.copied_p50_s.value), ms(y.copied_p50_s.value), NONE],
    ["latency of requests that both got, p95", ms(x.copied_p95_s.value), ms(y.copied_p95_s.value), NONE],
  ];
}

/** @param {any} a @param {any} b @param {any} ratios @returns {Row[]} */
function cost(a, b, ratios) {
  const by = (/** @type {number} */ x, /** @type {number} */ y) => (x ? ratio(y / x) : NONE);
  const row = (/** @type {string} */ name, /** @type {string} */ field) =>
    /** @type {Row} */ ([name, short(a.flops[field]), short(b.flops[field]), by(a.flops[field], b.flops[field])]);
  return [
    ["FLOPs, whole prompt", short(a.prompt_flops), short(b.prompt_flops), ratio(ratios.prompt_flops)],
    row("FLOPs, vision tower", "vision"), row("FLOPs, projector", "projector"),
    row("FLOPs, LLM prefill", "prefill"), row("FLOPs, decode a token", "decode_token"),
    ["parameters", short(a.params), short(b.params), ratio(ratios.params)],
  ];
}
