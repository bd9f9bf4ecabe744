// Compare: what the smaller model costs and gains, in numbers that are read every few seconds.
import { api, segment } from "../api.js";
import { canaryPanel } from "../canary.js";
import { headline } from "../headline.js";
import { html, nothing } from "../html.js";
import { numbers } from "../numbers.js";
import { choices, pairOf } from "../pairs.js";
import { attempt, command, empty, notice, repeat, sentence } from "../ui.js";
import { ms, rate } from "../format.js";
import "../chart.js";

const EVERY_MS = 4000;
const WINDOWS = [["1 minute", 60], ["5 minutes", 300], ["15 minutes", 900]];

/** @param {import("../ui.js").Shell} shell @returns {import("../ui.js").Page} */
export function comparePage(shell) {
  /** @type {any} */
  const state = {
    models: null, chosen: null, pending: true, view: null, alias: null, aliasError: null, error: null,
    done: null, window: 300,
  };
  /** @type {ReturnType<typeof repeat> | null} */
  let reading = null;

  /** @param {AbortSignal} signal */
  async function read(signal) {
    try {
      state.models = (await api("GET", "/v1/models", { signal })).data;
      const all = choices(state.models);
      const wanted = new URLSearchParams(location.search).get("of");
      state.chosen = all.find((choice) => choice.value === wanted) ?? all.find((c) => c.pair) ?? all[0] ?? null;
      await readAlias(signal);
      await readPair(signal);
      state.pending = false;
      state.error = null;
    } catch (error) {
      if (signal.aborted) return;
      state.error = sentence(error);
    }
    shell.update();
  }

  /** @param {AbortSignal} signal */
  async function readAlias(signal) {
    const name = state.chosen?.alias;
    state.aliasError = null;
    if (!name) {
      state.alias = null;
      return;
    }
    try {
      state.alias = await api("GET", `/aliases/${segment(name)}`, { signal });
    } catch (/** @type {any} */ error) {
      if (error.status !== 403 || signal.aborted) throw error;
      state.alias = null;
      state.aliasError = "Agreement and canary are shown to keys with the scope admin.";
    }
  }

  /** @param {AbortSignal} signal */
  async function readPair(signal) {
    const pair = state.alias ? pairOf(state.alias.alias, state.models) : (state.chosen?.pair ?? null);
    if (pair === null) {
      state.view = null;
      return;
    }
    const query = new URLSearchParams({ ...pair, window_s: String(state.window) });
    state.view = await api("GET", `/comparison?${query}`, { signal });
  }

  /** @param {string} value */
  function choose(value) {
    history.replaceState(null, "", `?of=${encodeURIComponent(value)}`);
    state.chosen = choices(state.models).find((choice) => choice.value === value) ?? null;
    state.view = state.alias = state.aliasError = state.done = null;
    state.pending = true;
    reading?.now();
    shell.update();
  }

  /** @param {() => Promise<unknown>} change @param {string} said */
  async function act(change, said) {
    state.done = await attempt(change, said);
    shell.update();
    reading?.now();
  }

  function view() {
    return html`
      <div class="title">
        <h1>Compare</h1>
        ${picker(state, choose, (seconds) => { state.window = seconds; reading?.now(); })}
      </div>
      ${notice(state.error)} ${notice(state.done?.text, state.done?.kind)}
      ${state.view ? headline(state.view, state.alias?.comparison) : nothing}
      ${state.alias && state.models ? canaryPanel(state.alias, state.view, act) : nothing}
      ${notice(state.aliasError, "plain")}
      ${state.view ? [charts(state.view), numbers(state.view, state.alias?.comparison)] : nothingYet(state)}`;
  }

  return {
    title: "Compare",
    start: () => { reading = repeat(read, EVERY_MS); },
    stop: () => reading?.stop(),
    view,
  };
}

/** @param {any} state @param {(value: string) => void} choose @param {(seconds: number) => void} look */
function picker(state, choose, look) {
  const all = state.models ? choices(state.models) : [];
  if (!all.length) return nothing;
  return html`<div class="picker">
    <label for="of">Models</label>
    <select id="of" @change=${(/** @type {any} */ e) => choose(e.target.value)}>
      ${all.map((c) => html`<option value=${c.value} .selected=${c.value === state.chosen?.value}>${c.label}</option>`)}
    </select>
    <label for="window">Live numbers of the last</label>
    <select id="window" @change=${(/** @type {any} */ e) => look(Number(e.target.value))}>
      ${WINDOWS.map(([label, seconds]) => html`<option value=${seconds} ?selected=${seconds === state.window}>${label}</option>`)}
    </select>
  </div>`;
}

/** @param {any} state */
function nothingYet(state) {
  if (state.pending) return state.error ? nothing : html`<p class="soft" role="status">Reading …</p>`;
  if (state.chosen && (state.chosen.pair || state.alias === null && state.chosen.alias === null)) return nothing;
  if (state.chosen) {
    return empty(`Only one model answers ${state.chosen.alias}`, html`<p>Copy its requests to a compressed
      model on <a href="/ui/models">Models</a>, or:</p>
      ${command(`infoprune alias shadow ${state.chosen.alias} COMPRESSED`)}`);
  }
  return empty("There is no compressed model yet", html`<p><a href="/ui/compress">Compress one</a>, or in a
    shell:</p>${command(`curl ${location.origin}/compress -d '{"model": "${state.models[0]?.id ?? "NAME"}", "recipe": {"flops": 0.5}}'`)}`);
}

/** @param {any} view */
function charts(view) {
  const { series, original, compressed } = view;
  if (series.at.length < 2) {
    return html`<p class="soft" role="status">The curves begin in a few seconds.</p>`;
  }
  const last = series.at.at(-1) - series.at[0];
  const curve = (/** @type {string} */ name, /** @type {string} */ label, dashed = false) =>
    /** @type {("original" | "compressed")[]} */ (["original", "compressed"]).map((side) => ({
      label: `${side}, ${label}`, side, dashed, values: series[side][name],
    }));
  const bare = (/** @type {number | null} */ value) => rate(value, "");
  const drawn = [
    { title: "Latency", note: "solid p50, dashed p95", format: ms, curves: [...curve("p50_s", "p50"), ...curve("p95_s", "p95", true)] },
    { title: "Time to first token", note: "p50", format: ms, curves: curve("first_token_p50_s", "p50") },
    { title: "Requests per second", note: "", format: bare, curves: curve("requests_per_s", "requests/s") },
    { title: "Tokens per second", note: "of all answers", format: bare, curves: curve("tokens_per_s", "tokens/s") },
  ];
  return html`<section aria-labelledby="live">
    <div class="section-head"><h2 id="live">Live</h2>
      <p class="legend"><span class="key original"></span>${original.name} <span class="key compressed"></span>${compressed.name}</p></div>
    <div class="charts">${drawn.map((chart) => html`<figure>
      <figcaption>${chart.title} <span class="soft">${chart.note}</span></figcaption>
      <ip-chart role="img" .data=${{ at: series.at, curves: chart.curves, format: chart.format }}
        aria-label="${chart.title} of both models over the last ${Math.round(last / 60) || 1} min; the latest numbers are in the table below"></ip-chart>
    </figure>`)}</div>
  </section>`;
}
