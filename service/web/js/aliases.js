// The aliases on the page Models: who answers, shadow, canary, history.
import { deleteAlias, endShadow, setAlias, startCanary, startShadow, weightsOf } from "./alias-dialogs.js";
import { api, segment } from "./api.js";
import { when } from "./format.js";
import { html, nothing } from "./html.js";
import { chip, command, empty, scroll } from "./ui.js";

/** @param {any[]} aliases @param {any[]} models @param {import("./canary.js").Act} act */
export function aliasesPanel(aliases, models, act) {
  const active = models.filter((m) => m.model.state === "active").map((m) => m.model.name);
  return html`<section aria-labelledby="aliases">
    <div class="section-head"><h2 id="aliases">Aliases</h2>
      <button type="button" @click=${() => setAlias(null, active[0] ?? "", act)}>New alias…</button></div>
    ${aliases.length ? scroll("Aliases", html`<table class="list">
      <thead><tr><th scope="col">Alias</th><th scope="col">Answered by</th><th scope="col">Shadow or canary</th>
        <th scope="col"><span class="sr">Actions</span></th></tr></thead>
      <tbody>${aliases.map((alias) => row(alias, active, act))}</tbody></table>`)
      : empty("No alias yet", html`<p>Clients ask for an alias, and you choose who answers: <kbd>New alias…</kbd>, or</p>
          ${command(`infoprune alias set prod ${active[0] ?? "MODEL"}`)}`)}
  </section>`;
}

/** @param {any} alias @param {string[]} active @param {import("./canary.js").Act} act */
function row(alias, active, act) {
  const answering = alias.targets.map((/** @type {any} */ t) => t.model);
  const candidates = active.filter((name) => !answering.includes(name));
  const { name, canary, shadow } = alias;
  const label = (/** @type {string} */ what) => `${what} ${name}`;
  return html`<tr>
    <th scope="row"><a href="/ui/compare?of=${encodeURIComponent(`alias:${name}`)}">${name}</a></th>
    <td>${weightsOf(alias)}</td>
    <td>${canary ? html`${chip("canary", "running")} ${canary.candidate}, ${canary.rules.steps[canary.step]} %` : nothing}
      ${shadow ? html`${chip("shadow", "plain")} ${shadow.candidate}, ${Math.round(100 * shadow.share)} %` : nothing}
      ${!canary && !shadow ? html`<span class="soft">none</span>` : nothing}</td>
    <td class="actions">
      ${canary ? nothing : html`
        <button type="button" aria-label=${label("Change who answers")} @click=${() => setAlias(name, weightsOf(alias), act)}>Change…</button>
        ${shadow ? html`<button type="button" aria-label=${label("Stop the shadow of")} @click=${() => endShadow(name, act)}>Stop shadow…</button>`
          : candidates.length ? html`<button type="button" aria-label=${label("Start a shadow of")} @click=${() => startShadow(name, candidates, act)}>Shadow…</button>` : nothing}
        ${candidates.length && alias.targets.length === 1
          ? html`<button type="button" aria-label=${label("Start a canary on")} @click=${() => startCanary(name, candidates, act)}>Canary…</button>` : nothing}
        <button type="button" aria-label=${label("Delete")} @click=${() => deleteAlias(name, act)}>Delete…</button>`}
      <button type="button" aria-label=${label("History of")} @click=${() => act(() => showHistory(name), "")}>History</button>
    </td>
  </tr>`;
}

/** @param {string} name */
async function showHistory(name) {
  const { data } = await api("GET", `/aliases/${segment(name)}/history`);
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-label", `History of ${name}`);
  const list = document.createElement("ol");
  list.className = "history";
  for (const change of data) {
    const item = document.createElement("li");
    item.textContent = `${when(change.when)}: ${change.what}, by ${change.who}${change.why ? ` – ${change.why}` : ""}`;
    list.append(item);
  }
  const title = Object.assign(document.createElement("h2"), { textContent: `History of ${name}` });
  const close = Object.assign(document.createElement("button"), { textContent: "Close", type: "button" });
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  dialog.append(title, list, close);
  document.body.append(dialog);
  dialog.showModal();
}
