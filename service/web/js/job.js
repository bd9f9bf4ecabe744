// One job: its stages as they pass, its log, and its report in a frame that can reach nothing.
import { api, isAbort, segment, stream, text } from "./api.js";
import { duration, interval, points, short } from "./format.js";
import { html, nothing } from "./html.js";
import { chip, notice, scroll, sentence } from "./ui.js";

const STAGES = ["calibrate", "score", "plan", "prune", "heal", "evaluate", "export"];
const AGAIN_MS = 2000;

/**
 * Follow a job until it is over; a connection that breaks is opened again.
 * @param {string} id
 * @param {() => void} update
 * @param {() => void} over
 */
export function follow(id, update, over) {
  const control = new AbortController();
  /** @type {any} */
  const job = {
    id, record: null, event: null, lines: [], error: null, report: null, stop: () => control.abort(), update,
  };

  async function refresh() {
    const path = `/compress/${segment(id)}`;
    const [record, log] = await Promise.all([api("GET", path), api("GET", `${path}/logs?last=200`)]);
    Object.assign(job, { record, lines: log.lines });
  }

  async function run() {
    while (!control.signal.aborted) {
      try {
        await refresh();
        job.error = null;
        update();
        await stream("GET", `/compress/${segment(id)}/events`, { signal: control.signal }, ({ data }) => {
          job.event = JSON.parse(data);
          update();
        });
        await refresh();
        over();
        update();
        return;
      } catch (/** @type {any} */ error) {
        if (isAbort(error)) return;
        job.error = sentence(error);
        update();
        if (error.status >= 400 && error.status < 500) return;
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

/** @param {any} record */
function outcome(record) {
  const report = record.report;
  if (!report?.original || !report.compressed) return nothing;
  const { original: a, compressed: b } = report;
  const prompt = (/** @type {any} */ f) => f.vision + f.projector + f.prefill;
  const rows = [
    ["FLOPs before the first token", short(prompt(a.flops)), short(prompt(b.flops)), (prompt(b.flops) / prompt(a.flops)).toFixed(3)],
    ["parameters", short(a.params), short(b.params), (b.params / a.params).toFixed(3)],
    ...Object.entries(report.accuracy_difference ?? {}).map(([name, d]) =>
      [name, interval(a.accuracy[name]), interval(b.accuracy[name]), `${points(d.value)} points [${points(d.low)}, ${points(d.high)}]`]),
  ];
  return scroll("What the job measured", html`<table class="numbers">
    <thead><tr><th scope="col">Measured</th><th scope="col">original</th><th scope="col">compressed</th><th scope="col">ratio or difference</th></tr></thead>
    <tbody>${rows.map(([name, ...cells]) => html`<tr><th scope="row">${name}</th>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody>
  </table>`);
}

/** @param {any} job @param {any} record */
const details = (job, record) => html`
  <details><summary>Recipe</summary><pre tabindex="0">${JSON.stringify(record.recipe, null, 2)}</pre></details>
  <details><summary>Log, ${job.lines.length} lines</summary><pre tabindex="0">${job.lines.join("\n")}</pre></details>`;
