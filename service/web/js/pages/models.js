// Models: where each comes from, what was measured of it, who answers for it; and the aliases.
import { api, segment, text } from "../api.js";
import { aliasesPanel } from "../aliases.js";
import { interval, NONE, points, short, when } from "../format.js";
import { html, nothing } from "../html.js";
import { reportView } from "../job.js";
import { ask, attempt, chip, command, empty, notice, repeat, scroll, sentence } from "../ui.js";

const EVERY_MS = 5000;

/** @param {import("../ui.js").Shell} shell @returns {import("../ui.js").Page} */
export function modelsPage(shell) {
  /** @type {any} */
  const state = { models: null, workers: {}, aliases: null, error: null, done: null, report: null };
  /** @type {ReturnType<typeof repeat> | null} */
  let reading = null;

  /** @param {AbortSignal} signal */
  async function read(signal) {
    try {
      const [models, served, aliases] = await Promise.all(
        ["/models", "/v1/models", "/aliases"].map((path) => api("GET", path, { signal })),
      );
      state.models = models.data;
      state.workers = Object.fromEntries(served.data.map((/** @type {any} */ m) => [m.id, m.workers ?? []]));
      state.aliases = aliases.data;
      state.error = null;
    } catch (/** @type {any} */ error) {
      if (signal.aborted) return;
      state.error = sentence(error);
      if (error.status === 403) reading?.stop();
    }
    shell.update();
  }

  /** @type {import("../canary.js").Act} */
  async function act(change, said) {
    state.done = await attempt(change, said);
    shell.update();
    reading?.now();
  }

  /** @param {string} name */
  async function report(name) {
    try {
      state.report = state.report?.name === name ? null : { name, content: await text(`/models/${segment(name)}/report`) };
      state.done = null;
    } catch (error) {
      state.done = { text: sentence(error), kind: "error" };
    }
    shell.update();
  }

  return {
    title: "Models",
    start: () => { reading = repeat(read, EVERY_MS); },
    stop: () => reading?.stop(),
    view: () => html`
      <h1>Models</h1>
      ${notice(state.error)} ${notice(state.done?.text, state.done?.kind)}
      ${state.models ? [aliasesPanel(state.aliases, state.models, act), lineage(state, act, report)] : nothing}`,
  };
}

/** @param {any} state @param {import("../canary.js").Act} act @param {(name: string) => void} report */
function lineage(state, act, report) {
  if (!state.models.length) {
    return empty("No model is registered", html`<p>Start the service with one:</p>${command("infoprune serve MODEL")}`);
  }
  const names = new Set(state.models.map((/** @type {any} */ m) => m.model.name));
  const roots = state.models.filter((/** @type {any} */ m) => !m.model.base || !names.has(m.model.base));
  return html`<section aria-labelledby="lineage"><h2 id="lineage">Lineage</h2>
    <ul class="tree">${roots.map((/** @type {any} */ root) => html`<li>${modelCard(root, null, state, act, report)}
      ${root.children.length ? html`<ul>${root.children.map((/** @type {string} */ name) => {
        const child = state.models.find((/** @type {any} */ m) => m.model.name === name);
        return html`<li>${modelCard(child, root, state, act, report)}</li>`;
      })}</ul>` : html`<p class="soft">No compressed version yet: <a href="/ui/compress">compress it</a>.</p>`}</li>`)}</ul>
  </section>`;
}

/**
 * @param {any} view @param {any} parent @param {any} state
 * @param {import("../canary.js").Act} act @param {(name: string) => void} report
 */
function modelCard(view, parent, state, act, report) {
  const { model } = view;
  const workers = state.workers[model.name] ?? [];
  const used = view.aliases.length ? `answers for ${view.aliases.join(", ")}` : "in no alias";
  return html`<article class="panel model" aria-label=${model.name}>
    <div class="section-head">
      <h3><span class="key ${model.variant}"></span>${model.name} ${chip(model.variant, "plain")}
        ${model.state === "active" ? chip(view.ready ? "ready" : "not ready") : chip(model.state)}</h3>
      <div class="actions">${actions(view, state, act, report)}</div>
    </div>
    <p class="soft">${short(model.params)} parameters, ${short(prompt(model))} FLOPs before the first token${parent
      ? ` (${(prompt(model) / prompt(parent.model)).toFixed(2)} of ${parent.model.name}'s)` : ""}; ${used}; since ${when(model.created)}.</p>
    ${workersView(workers)}
    ${measured(model, parent?.model)}
    ${model.recipe ? details(model) : nothing}
    ${state.report?.name === model.name ? reportView(`Report of ${model.name}`, state.report.content) : nothing}
  </article>`;
}

/** @param {any} model */
const prompt = ({ flops }) => flops.vision + flops.projector + flops.prefill;

/** @param {any} view @param {any} state @param {import("../canary.js").Act} act @param {(name: string) => void} report */
function actions({ model, aliases }, state, act, report) {
  const shown = state.report?.name === model.name;
  return html`
    ${model.variant === "compressed" ? html`
      ${model.base ? html`<a class="button" href="/ui/compare?of=${encodeURIComponent(`${model.base}>${model.name}`)}">Compare</a>` : nothing}
      <button type="button" aria-expanded=${shown} @click=${() => report(model.name)}>${shown ? "Hide report" : "Report"}</button>` : nothing}
    ${model.state === "active" ? html`<button type="button" @click=${() => retire(model.name, aliases, act)}>Retire…</button>` : nothing}
    ${model.state === "retired" ? html`<button type="button" class="danger" @click=${() => remove(model, act)}>Delete…</button>` : nothing}`;
}

/** @param {string} name @param {string[]} aliases @param {import("../canary.js").Act} act */
async function retire(name, aliases, act) {
  const said = await ask({
    title: `Retire ${name}?`, action: "Retire", danger: true,
    text: aliases.length ? `The aliases ${aliases.join(", ")} point to it; the gateway refuses as long as they do.`
      : "It gets no new requests; once those under way are answered its worker is stopped.",
    fields: [{ name: "reason", label: "Why, for the history" }],
  });
  if (said !== null) await act(() => api("POST", `/models/${segment(name)}/retire`, { body: said }), `${name} is being retired.`);
}

/** @param {any} model @param {import("../canary.js").Act} act */
async function remove(model, act) {
  const said = await ask({
    title: `Delete ${model.name}?`, action: "Delete", danger: true, text: "The service forgets the model; this cannot be undone.",
    fields: model.job ? [{ name: "files", label: "Its checkpoint's files", options: ["keep", "remove"] }] : [],
  });
  if (said === null) return;
  await act(() => api("DELETE", `/models/${segment(model.name)}?files=${said.files === "remove"}`), `${model.name} is deleted.`);
}

/** @param {any[]} workers */
function workersView(workers) {
  if (!workers.length) return html`<p class="soft">No worker.</p>`;
  return html`<ul class="workers" aria-label="Workers">${workers.map((worker, i) => html`<li>worker ${i + 1} ${chip(worker.status)}
    ${worker.restarts ? html`<span class="soft">${worker.restarts} restarts</span>` : nothing}
    ${worker.error ? html`<span class="reason">${worker.error}</span>` : nothing}</li>`)}</ul>`;
}

/** @param {any} model @param {any} parent */
function measured(model, parent) {
  const names = Object.keys(model.accuracy).sort();
  if (!names.length) return nothing;
  const paired = parent ? (model.measured?.accuracy_difference ?? {}) : {};
  return scroll(`Accuracy of ${model.name}`, html`<table class="numbers">
    <thead><tr><th scope="col">Dataset</th><th scope="col">questions</th><th scope="col">accuracy, 95 %</th>
      ${parent ? html`<th scope="col">points to ${parent.name}, paired</th>` : nothing}</tr></thead>
    <tbody>${names.map((name) => html`<tr><th scope="row">${name}</th><td>${model.accuracy[name].n}</td>
      <td>${interval(model.accuracy[name])}</td>
      ${parent ? html`<td>${paired[name] ? `${points(paired[name].value)} [${points(paired[name].low)}, ${points(paired[name].high)}]` : NONE}</td>` : nothing}</tr>`)}</tbody>
  </table>`);
}

/** @param {any} model */
const details = (model) => html`<details><summary>Recipe and plan</summary>
  <dl class="facts"><div><dt>plan, sha256</dt><dd><code>${model.plan_sha256 ?? NONE}</code></dd></div>
    <div><dt>job</dt><dd>${model.job ? html`<a href="/ui/compress?job=${encodeURIComponent(model.job)}">${model.job}</a>` : NONE}</dd></div>
    <div><dt>checkpoint</dt><dd><code>${model.path}</code></dd></div></dl>
  <pre tabindex="0">${JSON.stringify(model.recipe, null, 2)}</pre></details>`;
