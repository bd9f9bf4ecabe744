// Compress: a form that knows the recipes, the jobs, and one job from its first stage to its report.
import { api, segment } from "../api.js";
import { duration, when } from "../format.js";
import { html, nothing } from "../html.js";
import { follow, jobView } from "../job.js";
import { recipeForm } from "../recipe-form.js";
import { ask, attempt, chip, command, empty, notice, repeat, scroll, sentence } from "../ui.js";

const EVERY_MS = 3000;
export const isOver = (/** @type {string} */ status) => ["finished", "failed", "cancelled"].includes(status);

/** @param {import("../ui.js").Shell} shell @returns {import("../ui.js").Page} */
export function compressPage(shell) {
  /** @type {any} */
  const state = {
    originals: null, model: null, options: null, jobs: null, error: null, done: null, checked: null, job: null,
  };
  /** @type {ReturnType<typeof repeat> | null} */
  let reading = null;

  /** @param {AbortSignal} signal */
  async function read(signal) {
    try {
      offer((await api("GET", "/v1/models", { signal })).data);
      state.options ??= await api("GET", "/compress/options", { signal });
      state.jobs = (await api("GET", "/compress", { signal })).data;
      state.error = null;
      const wanted = new URLSearchParams(location.search).get("job");
      if (wanted && state.job?.id !== wanted) open(wanted);
    } catch (error) {
      if (signal.aborted) return;
      state.error = sentence(error);
    }
    shell.update();
  }

  /** @param {any[]} served */
  function offer(served) {
    const names = served.filter((model) => model.variant === "original").map((model) => model.id);
    // A form that was begun stays, also where the last original is gone: the gateway says so then.
    if (names.length || state.originals === null) state.originals = names;
    // What stood first stays chosen, whatever comes before it.
    if (!state.originals.includes(state.model)) state.model = state.originals[0] ?? null;
  }

  /** @param {string} name */
  function choose(name) {
    state.model = name;
    shell.update();
  }

  /** @param {string} id */
  function open(id) {
    state.job?.stop();
    history.replaceState(null, "", `?job=${encodeURIComponent(id)}`);
    state.job = follow(id, shell.update, () => reading?.now());
    shell.update();
  }

  function close() {
    state.job?.stop();
    state.job = null;
    history.replaceState(null, "", location.pathname);
    shell.update();
  }

  /** @param {any} body */
  async function check(body) {
    try {
      state.checked = { good: true, message: (await api("POST", "/compress/check", { body })).message };
    } catch (error) {
      state.checked = { good: false, message: sentence(error) };
    }
    shell.update();
  }

  /** @param {any} body */
  async function submit(body) {
    try {
      const job = await api("POST", "/compress", { body });
      state.checked = { good: true, message: `${job.name} is queued as job ${job.id}.` };
      reading?.now();
      open(job.id);
    } catch (error) {
      state.checked = { good: false, message: sentence(error) };
      shell.update();
    }
  }

  /** @param {any} job */
  async function cancel(job) {
    const said = await ask({
      title: `Cancel ${job.name}?`, text: "The job's process is stopped, and nothing of it stays.",
      action: "Cancel the job", danger: true,
    });
    if (said === null) return;
    state.done = await attempt(() => api("DELETE", `/compress/${segment(job.id)}`), `${job.name} was cancelled.`);
    reading?.now();
    shell.update();
  }

  return {
    title: "Compress",
    start: () => { reading = repeat(read, EVERY_MS); },
    stop: () => {
      reading?.stop();
      state.job?.stop();
    },
    view: () => html`
      <h1>Compress</h1>
      ${notice(state.error)} ${notice(state.done?.text, state.done?.kind)}
      ${state.job ? jobView(state.job, cancel, close) : nothing}
      <div class="compress">
        ${state.options && state.originals ? formPanel(state, choose, check, submit) : nothing}
        ${state.jobs ? jobsPanel(state.jobs, open, cancel) : nothing}
      </div>`,
  };
}

/**
 * @param {any} state @param {(name: string) => void} choose
 * @param {(body: any) => void} check @param {(body: any) => void} submit
 */
function formPanel(state, choose, check, submit) {
  if (!state.originals.length) {
    return empty("No original is served", html`<p>Serve one of a known family first:</p>
      ${command("infoprune serve MODEL")}<ul>${state.options.families.map((/** @type {string} */ f) => html`<li>${f}</li>`)}</ul>`);
  }
  return html`<section class="panel" aria-labelledby="new-job"><h2 id="new-job">New job</h2>
    ${recipeForm(modelField(state.originals, state.model, choose), state.options, check, submit)}
    <div aria-live="polite">${state.checked ? notice(state.checked.message, state.checked.good ? "good" : "error") : nothing}</div>
  </section>`;
}

/**
 * Models come and go while the form is filled in: a choice is a name, not a place in the list.
 * @param {string[]} names @param {string} chosen @param {(name: string) => void} choose
 */
const modelField = (names, chosen, choose) => html`<div class="field"><label for="model">Model</label>
  <select id="model" name="model" @change=${(/** @type {any} */ event) => choose(event.target.value)}>
    ${names.map((name) => html`<option .selected=${name === chosen}>${name}</option>`)}
  </select></div>`;

/** @param {any[]} jobs @param {(id: string) => void} open @param {(job: any) => void} cancel */
function jobsPanel(jobs, open, cancel) {
  return html`<section class="panel" aria-labelledby="jobs"><h2 id="jobs">Jobs</h2>
    ${jobs.length ? scroll("Jobs", html`<table class="list">
      <thead><tr><th scope="col">Result</th><th scope="col">Target</th><th scope="col">State</th>
        <th scope="col">Queued</th><th scope="col"><span class="sr">Actions</span></th></tr></thead>
      <tbody>${jobs.map((job) => jobRow(job, open, cancel))}</tbody></table>`)
      : empty("No job yet", html`<p>Choose a model and a preset or a target, <kbd>Check</kbd>, then <kbd>Start</kbd>.</p>`)}
  </section>`;
}

/** @param {any} job @param {(id: string) => void} open @param {(job: any) => void} cancel */
const jobRow = (job, open, cancel) => html`<tr>
  <th scope="row">${job.name}<br><span class="soft">of ${job.model}</span></th>
  <td>${target(job.recipe)}</td>
  <td>${chip(job.status)} ${job.status === "running" ? html`<span class="soft">${job.stage ?? ""} ${Math.round(job.percent)} %${
    job.seconds_left === null ? "" : `, ${duration(job.seconds_left)} left`}</span>` : nothing}</td>
  <td>${when(job.created)}</td>
  <td class="actions"><button type="button" @click=${() => open(job.id)} aria-label="Open the job of ${job.name}">Open</button>
    ${isOver(job.status) ? nothing : html`<button type="button" @click=${() => cancel(job)} aria-label="Cancel the job of ${job.name}">Cancel…</button>`}</td>
</tr>`;

/** @param {any} recipe */
function target(recipe) {
  const name = ["flops", "params", "latency", "max_accuracy_drop"].find((each) => recipe[each] !== null && recipe[each] !== undefined);
  return name ? `${name.replaceAll("_", " ")} ${recipe[name]}` : "";
}
