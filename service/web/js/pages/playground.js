// Playground: one picture, one question, two models, and their answers as they come.
import { api, ApiError, isAbort, stream } from "../api.js";
import { megabytes, ms, NONE, percent } from "../format.js";
import { html, nothing } from "../html.js";
import { chip, command, empty, notice, repeat, sentence } from "../ui.js";

const EVERY_MS = 4000;
const SIDES = /** @type {const} */ (["original", "compressed"]);
const ROOM_FOR_JSON = 4096;

/**
 * @typedef {{
 *   model: string, after: string | null, text: string, busy: boolean, error: string | null,
 *   firstS: number | null, totalS: number | null, tokens: number | null,
 * }} Answer
 */

/** @param {import("../ui.js").Shell} shell @returns {import("../ui.js").Page} */
export function playgroundPage(shell) {
  /** @type {any} */
  const state = {
    models: null, chosen: { original: "", compressed: "" }, image: null, imageError: null, question: "",
    maxTokens: 64, answers: null, agreement: null, error: null, readError: null, over: false,
    byHand: new Set(),
  };
  /** @type {AbortController | null} */
  let asking = null;
  /** @type {ReturnType<typeof repeat> | null} */
  let reading = null;

  /** @param {AbortSignal} signal */
  async function read(signal) {
    try {
      state.models = (await api("GET", "/v1/models", { signal })).data;
      state.chosen = chosenOf(state.models, state.chosen, state.byHand);
      state.readError = null;
    } catch (error) {
      if (signal.aborted) return;
      state.readError = sentence(error);
    }
    shell.update();
  }

  /** @param {File | null | undefined} file */
  function take(file) {
    if (!file) return;
    state.imageError = fault(file, shell.config);
    if (state.imageError === null) {
      if (state.image) URL.revokeObjectURL(state.image.url);
      state.image = { file, url: URL.createObjectURL(file) };
    }
    shell.update();
  }

  /** @param {ClipboardEvent} event */
  const paste = (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (file) {
      event.preventDefault();
      take(file);
    }
  };

  /** @param {SubmitEvent} event */
  async function submit(event) {
    event.preventDefault();
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    state.error = state.agreement = null;
    const sides = SIDES.filter((side) => state.chosen[side]);
    const answers = sides.map((side, i) => begun(state.chosen[side], i ? state.chosen[sides[i - 1]] : null));
    state.answers = Object.fromEntries(sides.map((side, i) => [side, answers[i]]));
    shell.update();
    const body = await requestBody(state);
    // In turn: on one machine each of two that compute at once slows the other, and their times decide.
    for (const answer of answers) {
      if (!signal.aborted) await hearOut(answer, body, signal, shell.update);
    }
    if (!signal.aborted && answers.length === 2 && answers.every((answer) => answer.error === null)) {
      try {
        const [a, b] = answers.map((answer) => answer.text);
        state.agreement = await api("POST", "/comparison/agreement", { body: { a, b }, signal });
      } catch (error) {
        if (!isAbort(error)) state.error = sentence(error);
      }
    }
    shell.update();
  }

  return {
    title: "Playground",
    start: () => {
      document.addEventListener("paste", paste);
      reading = repeat(read, EVERY_MS);
    },
    stop: () => {
      reading?.stop();
      asking?.abort();
      document.removeEventListener("paste", paste);
      if (state.image) URL.revokeObjectURL(state.image.url);
    },
    view: () => html`
      <h1>Playground</h1>
      ${notice(state.readError)} ${notice(state.error)}
      ${state.models === null ? nothing : state.models.length
        ? html`<div class="playground">
            <form class="panel" @submit=${submit}>${asked(state, shell.update, take)}</form>
            <div class="answers">${answersView(state)}</div>
          </div>`
        : empty("No model is served", html`<p>Start the service with one:</p>${command("infoprune serve MODEL")}`)}`,
  };
}

/**
 * Who is asked as models come and go: what was chosen stays as long as it is there, what was chosen by hand
 * (no second model, too) is not replaced, and what is missing is the address's pair or the first there is.
 * @param {any[]} models @param {{ original: string, compressed: string }} chosen @param {Set<string>} byHand
 */
function chosenOf(models, chosen, byHand) {
  const find = (/** @type {string | null | undefined} */ id) => models.find((model) => model.id === id);
  let { original, compressed } = chosen;
  if (!find(compressed) && !(compressed === "" && byHand.has("compressed"))) {
    const wanted = new URLSearchParams(location.search).get("compressed");
    const small = find(wanted) ?? models.find((model) => model.variant === "compressed");
    compressed = small?.id ?? "";
    if (find(small?.base) && !byHand.has("original")) original = small.base;
  }
  return { original: find(original)?.id ?? models[0]?.id ?? "", compressed };
}

/** Why a file is not sent; null where it is. @param {File} file @param {any} limits */
export function fault(file, limits) {
  if (!file.type.startsWith("image/")) return `${file.name} is no picture; choose a PNG, JPEG or WebP.`;
  // Base64 makes four bytes of three.
  const most = Math.min(limits.max_image_bytes, Math.floor(((limits.max_body_bytes - ROOM_FOR_JSON) * 3) / 4));
  return file.size <= most ? null
    : `The picture has ${megabytes(file.size)}, but this gateway takes at most ${megabytes(most)}; choose a smaller one.`;
}

/** @param {string} model @param {string | null} after who answers first @returns {Answer} */
const begun = (model, after) => ({
  model, after, text: "", busy: true, error: null, firstS: null, totalS: null, tokens: null,
});

/** @param {any} state */
async function requestBody(state) {
  const image = state.image && { type: "image_url", image_url: { url: await dataUrl(state.image.file) } };
  const content = [...(image ? [image] : []), { type: "text", text: state.question }];
  return {
    messages: [{ role: "user", content }], temperature: 0, max_tokens: state.maxTokens, stream: true,
    stream_options: { include_usage: true },
  };
}

/** @param {File} file @returns {Promise<string>} */
function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new Error("The picture could not be read; choose it again."));
    reader.readAsDataURL(file);
  });
}

/** @param {Answer} answer @param {any} body @param {AbortSignal} signal @param {() => void} update */
async function hearOut(answer, body, signal, update) {
  answer.after = null;
  update();
  const began = performance.now();
  const since = () => (performance.now() - began) / 1000;
  try {
    await stream("POST", "/v1/chat/completions", { body: { model: answer.model, ...body }, signal }, ({ data }) => {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message, 200, chunk.error.code);
      const piece = chunk.choices?.[0]?.delta?.content ?? "";
      if (piece && answer.firstS === null) answer.firstS = since();
      answer.text += piece;
      answer.tokens = chunk.usage?.completion_tokens ?? answer.tokens;
      update();
    });
  } catch (error) {
    if (!isAbort(error)) answer.error = sentence(error);
  }
  answer.totalS = since();
  answer.busy = false;
  update();
}

/** @param {any} state @param {() => void} update @param {(file: File | null | undefined) => void} take */
function asked(state, update, take) {
  const over = (/** @type {boolean} */ value) => (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    state.over = value;
    if (event.type === "drop") take(event.dataTransfer?.files[0]);
    update();
  };
  return html`
    <div class="field">
      <input id="image" class="sr" type="file" accept="image/*" aria-label="Picture"
        @change=${(/** @type {any} */ e) => take(e.target.files[0])}>
      <label class="drop ${state.over ? "over" : ""}" for="image" @dragover=${over(true)} @dragleave=${over(false)} @drop=${over(false)}>
        ${state.image ? html`<img src=${state.image.url} alt="The chosen picture, ${state.image.file.name}">`
          : html`<span><b>Drop, choose or paste a picture</b><br><span class="soft">PNG, JPEG, WebP or GIF</span></span>`}
      </label>
      ${notice(state.imageError)}
    </div>
    <div class="field">
      <label for="question">Question</label>
      <textarea id="question" rows="2" required .value=${state.question} placeholder="What is in the picture?"
        @input=${(/** @type {any} */ e) => { state.question = e.target.value; }}></textarea>
    </div>
    <div class="row">
      ${SIDES.map((side) => html`<div class="field">
        <label for=${side}>${side === "original" ? "First model" : "Second model"}</label>
        <select id=${side} @change=${(/** @type {any} */ e) => { state.chosen[side] = e.target.value; state.byHand.add(side); update(); }}>
          ${side === "compressed" ? html`<option value="" .selected=${!state.chosen[side]}>none</option>` : nothing}
          ${state.models.map((/** @type {any} */ m) => html`<option .selected=${m.id === state.chosen[side]}>${m.id}</option>`)}
        </select></div>`)}
      <div class="field narrow"><label for="max-tokens">Tokens, at most</label>
        <input id="max-tokens" type="number" min="1" max="4096" .value=${String(state.maxTokens)}
          @change=${(/** @type {any} */ e) => { state.maxTokens = Number(e.target.value) || 64; }}></div>
    </div>
    <button type="submit" class="primary">${state.chosen.compressed ? "Ask both" : "Ask"}</button>`;
}

/** @param {any} state */
function answersView(state) {
  if (state.answers === null) {
    return empty("The answers appear here, side by side", html`<p>Choose a picture, write a question, and
      press <kbd>${state.chosen.compressed ? "Ask both" : "Ask"}</kbd>. Answers are greedy, so that a difference is the
      models'; two models are asked one after the other, so that neither slows the other.</p>`);
  }
  return html`
    <div class="side-by-side">${Object.entries(state.answers).map(([side, answer]) => answerView(side, answer))}</div>
    ${state.agreement ? agreementView(state.agreement) : nothing}`;
}

/** @param {string} side @param {any} answer */
const answerView = (side, answer) => html`<section class="panel answer ${side}" aria-label="Answer of ${answer.model}">
  <h2><span class="key ${side}"></span>${answer.model}</h2>
  <div class="said" aria-live="polite" aria-busy=${answer.busy}>${answer.after
    ? html`<span class="soft">Waits until ${answer.after} has answered.</span>` : answer.text}${answer.busy && !answer.after
    ? html`<span class="caret" aria-hidden="true"></span>` : nothing}</div>
  ${notice(answer.error)}
  <dl class="facts">
    <div><dt>first token</dt><dd>${ms(answer.firstS)}</dd></div>
    <div><dt>whole answer</dt><dd>${answer.busy ? NONE : ms(answer.totalS)}</dd></div>
    <div><dt>tokens</dt><dd>${answer.tokens ?? NONE}</dd></div>
  </dl>
</section>`;

/** @param {any} found */
function agreementView(found) {
  const agrees = found.value === 1;
  return html`<p class="agreement" role="status">${agrees ? chip("agree", "holds") : chip("differ", "regressed")}
    ${agrees ? "The answers are the same after the VQA evaluation's normalisation."
      : `The answers share ${percent(found.token, 0)} of their words (F1).`}</p>`;
}
