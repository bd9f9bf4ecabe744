// One job: its stages as they pass, its log, and its report in a frame that can reach nothing.
import { api, isAbort, segment, stream, text } from "./api.js";
import { duration, interval, points, short } from "./format.js";
import { html, nothing } from "./html.js";
import { chip, notice, repeat, scroll, sentence } from "./ui.js";

const STAGES = ["calibrate", "score", "plan", "prune", "heal", "evaluate", "export"];
const AGAIN_MS = 2000;
const LOG_EVERY_MS = 3000;
const LOG_LINES = 2000; // all that the service keeps: with fewer, what is read would move up while it grows

/**
 * Follow a job until it is over; a connection that breaks is opened again.
 * @param {string} id
 * @param {() => void} update
 * @param {() => void} over
 */
export function follow(id, update, over) {
  const control = new AbortController();
  const { signal } = control;
  /** @type {any} */
  const job = {
    id, record: null, event: null, lines: [], error: null, report: null, update, stop,
    isLogOpen: false, isLogOld: false, openLog,
  };
  const path = `/compress/${segment(id)}`;
  const logPath = `${path}/logs?last=${LOG_LINES}`;
  /** @type {ReturnType<typeof repeat> | null} of the log, while the job runs */
  let reading = null;

  async function refresh() {
    const [record, log] = await Promise.all([path, logPath].map((each) => api("GET", each, { signal })));
    Object.assign(job, { record, lines: log.lines });
  }

  /** @param {AbortSignal} given */
  async function readLog(given) {
    // A log that is closed shows its number of lines, for which the stages are often enough.
    if (!job.isLogOpen && !job.isLogOld) return;
    job.isLogOld = false;
    try {
      job.lines = (await api("GET", logPath, { signal: given })).lines;
      update();
    } catch {
      job.isLogOld = true; // the stream of events says what is wrong; the next turn reads again
    }
  }

  /** @param {boolean} open */
  function openLog(open) {
    job.isLogOpen = open;
    if (open) reading?.now();
    update();
  }

  /** @param {any} event */
  function hear(event) {
    if (event.stage !== job.event?.stage || event.attempt !== job.event?.attempt) job.isLogOld = true;
    job.event = event;
    update();
  }

  function stop() {
    control.abort();
    reading?.stop();
  }

  async function run() {
    while (!signal.aborted) {
      try {
        await refresh();
        job.error = null;
        update();
        reading ??= repeat(readLog, LOG_EVERY_MS);
        await stream("GET", `${path}/events`, { signal }, ({ data }) => hear(JSON.parse(data)));
        reading.stop(); // nothing comes later than the whole log
        await refresh();
        over();
        update();
        return;
      } catch (/** @type {any} */ error) {
        if (isAbort(error)) return;
        job.error = sentence(error);
        update();
        if (error.status >= 400 && error.status < 500) return stop();
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  void run();
  return job;
}

/** @param {any} job @param {(record: any) => void} cancel @param {() => void} close */
export function jobView(job, cancel, close) {
  const record = job.record && { ...job.record, ...job.event };
  return html`<section class="panel job" aria-labelledby="job">
    <div class="section-head">
      <h2 id="job">${record ? record.name : `Job ${job.id}`} ${record ? chip(record.status) : nothing}</h2>
      <div class="actions">
        ${record?.status === "finished" ? html`<button type="button" class="primary" @click=${() => showReport(job)}>${job.report ? "Hide report" : "Show report"}</button>` : nothing}
        ${record && !record.ended && ["queued", "running"].includes(record.status)
          ? html`<button type="button" class="danger" @click=${() => cancel(record)}>Cancel…</button>` : nothing}
        <button type="button" @click=${close}>Close</button>
      </div>
    </div>
    ${notice(job.error)} ${notice(record?.error)}
    ${record ? [progress(record), outcome(job.record), details(job, record)] : nothing}
    ${job.report ? reportView(`Report of ${record.name}`, job.report) : nothing}
  </section>`;
}

/** @param {any} job */
async function showReport(job) {
  try {
    job.report = job.report ? null : await text(`/compress/${segment(job.id)}/report`);
    job.error = null;
  } catch (error) {
    job.error = sentence(error);
  }
  job.update();
}

/**
 * A report in a frame without an origin; it gets the page by a message, as a frame cannot show a key.
 * @param {string} title
 * @param {string} content
 */
export function reportView(title, content) {
  const give = (/** @type {any} */ event) => event.target.contentWindow.postMessage({ html: content }, "*");
  return html`<iframe class="report" title=${title} sandbox="allow-scripts" src="/ui/report.html" @load=${give}></iframe>`;
}

/** @param {any} record */
function progress(record) {
  const at = record.status === "finished" ? STAGES.length : STAGES.indexOf(record.stage);
  const left = record.status === "running"
    ? `${record.stage ?? "starting"}, ${Math.round(record.percent)} %${record.seconds_left === null ? "" : `, ${duration(record.seconds_left)} left`}`
    : { queued: "Waits for a runner.", finished: "Finished.", failed: "Failed.", cancelled: "Cancelled." }[/** @type {"queued"} */ (record.status)];
  return html`
    <ol class="steps" aria-label="Stages">
      ${STAGES.map((stage, i) => html`<li class=${i < at ? "done" : i === at && record.status === "running" ? "now" : ""}
        aria-current=${i === at && record.status === "running" ? "step" : nothing}>${stage}</li>`)}
    </ol>
    <progress max="100" .value=${record.percent} aria-label="Progress of the job"></progress>
    <p class="soft" aria-live="polite">${left} ${record.attempt > 1 ? `Attempt ${record.attempt}.` : ""}</p>`;
}

/** @param {any} d A paired difference. */
const change = (d) => `${points(d.value)} points [${points(d.low)}, ${points(d.high)}]`;

/** @param {any} record */
function outcome(record) {
  const report = record.report;
  if (!report?.original || !report.compressed) return nothing;
  const { original: a, compressed: b } = report;
  const prompt = (/** @type {any} */ f) => f.vision + f.projector + f.prefill;
  const rows = [
    ["FLOPs before the first token", short(prompt(a.flops)), short(prompt(b.flops)), (prompt(b.flops) / prompt(a.flops)).toFixed(3)],
    ["parameters", short(a.params), short(b.params), (b.params / a.params).toFixed(3)],
    ...(a.latency_s && b.latency_s
      ? [[html`<span title=${report.latency_by ?? ""}>latency of a request, ms</span>`, (1000 * a.latency_s).toFixed(1), (1000 * b.latency_s).toFixed(1), (b.latency_s / a.latency_s).toFixed(3)]]
      : []),
    ...Object.entries(report.accuracy_difference ?? {}).map(([name, d]) =>
      [name, interval(a.accuracy[name]), interval(b.accuracy[name]), change(d)]),
    ...(report.mean_accuracy_difference ? [["mean of the datasets", "", "", change(report.mean_accuracy_difference)]] : []),
  ];
  return scroll("What the job measured", html`<table class="numbers">
    <thead><tr><th scope="col">Measured</th><th scope="col">original</th><th scope="col">compressed</th><th scope="col">ratio or difference</th></tr></thead>
    <tbody>${rows.map(([name, ...cells]) => html`<tr><th scope="row">${name}</th>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody>
  </table>`);
}

/**
 * Every line of the log is a piece of its own, so that those that are there stay as they are, and with them
 * what somebody has marked, when others are added.
 * @param {any} job @param {any} record
 */
const details = (job, record) => html`
  <details><summary>Recipe</summary><pre tabindex="0">${JSON.stringify(record.recipe, null, 2)}</pre></details>
  <details ?open=${job.isLogOpen} @toggle=${(/** @type {any} */ event) => job.openLog(event.target.open)}>
    <summary>Log, ${job.lines.length} lines</summary>
    <pre tabindex="0">${job.lines.map((/** @type {string} */ line) => `${line}\n`)}</pre></details>`;
