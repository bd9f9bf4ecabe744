// The shell: which page is shown, who is signed in, which theme. Read this first.
import { html, nothing, render } from "./html.js";
import { comparePage } from "./pages/compare.js";
import { compressPage } from "./pages/compress.js";
import { modelsPage } from "./pages/models.js";
import { playgroundPage } from "./pages/playground.js";
import { key, setKey } from "./session.js";
import { notice } from "./ui.js";

/** @type {Record<string, (shell: import("./ui.js").Shell) => import("./ui.js").Page>} */
const PAGES = {
  compare: comparePage,
  playground: playgroundPage,
  compress: compressPage,
  models: modelsPage,
};
const NAMES = { compare: "Compare", playground: "Playground", compress: "Compress", models: "Models" };

const place = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @type {import("./ui.js").Page | null} */
let page = null;
/** @type {string | null} why the key is asked for, beside that there is none */
let refused = null;
let config = { version: "", auth: "keys", max_body_bytes: 0, max_image_bytes: 0 };
let scheduled = false;
let opened = "";

const current = () => location.pathname.replace(/^\/ui\/?/, "") || "compare";
const needsKey = () => config.auth === "keys" && key() === null;

/** Draw at the next frame; many changes are one drawing. */
function update() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    render(head(), place("head"));
    render(needsKey() ? signIn() : (page?.view() ?? nothing), place("main"));
    render(html`InfoPrune ${config.version} · <a href="/openapi.json">HTTP interface</a> ·
      <a href="/metrics">metrics</a>`, place("foot"));
  });
}

function open() {
  opened = location.pathname;
  page?.stop();
  page = null;
  const make = PAGES[current()];
  document.title = `${NAMES[/** @type {keyof NAMES} */ (current())] ?? "InfoPrune"} · InfoPrune`;
  render(nothing, place("main"));
  if (!needsKey() && make) {
    page = make({ update, config });
    page.start();
  }
  update();
}

function head() {
  return html`
    <a class="brand" href="/ui/compare"><img src="/ui/icon.svg" alt="" width="22" height="22"> InfoPrune</a>
    <nav aria-label="Pages"><ul>
      ${Object.entries(NAMES).map(([path, name]) => html`<li><a href="/ui/${path}"
        aria-current=${path === current() ? "page" : nothing}>${name}</a></li>`)}
    </ul></nav>
    <div class="tools">
      <button type="button" class="quiet" @click=${toggleTheme}
        aria-label=${isDark() ? "Light theme" : "Dark theme"}>${isDark() ? "☀" : "☾"}</button>
      ${config.auth === "keys" && key() !== null
        ? html`<button type="button" class="quiet" @click=${signOut}>Sign out</button>` : nothing}
    </div>`;
}

function signIn() {
  return html`<section class="sign-in" aria-labelledby="sign-in">
    <h1 id="sign-in">Sign in</h1>
    <p>This gateway asks for an API key. It stays in this tab, and is gone when the tab closes.</p>
    ${notice(refused)}
    <form @submit=${takeKey}>
      <div class="field">
        <label for="key">API key</label>
        <input id="key" name="key" type="password" required autocomplete="off" spellcheck="false"
          placeholder="ip-…" aria-describedby="key-help">
        <small id="key-help">Made by <code>infoprune keys create NAME --scope admin</code>. A key with less
          shows what its scopes allow.</small>
      </div>
      <button type="submit" class="primary">Sign in</button>
    </form>
  </section>`;
}

/** @param {SubmitEvent} event */
function takeKey(event) {
  event.preventDefault();
  const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
  setKey(String(form.get("key")).trim());
  refused = null;
  open();
}

function signOut() {
  setKey(null);
  refused = null;
  open();
}

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("infoprune-theme", theme);
  } catch {
    // Storage is forbidden: it holds for this view.
  }
  dispatchEvent(new Event("infoprune-theme"));
  update();
}

/** Links within the page change it without loading it anew. @param {MouseEvent} event */
function follow(event) {
  const link = event.target instanceof Element ? event.target.closest("a[href^='/ui/']") : null;
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey;
  if (!(link instanceof HTMLAnchorElement) || !plain || link.target) return;
  event.preventDefault();
  if (link.href !== location.href) history.pushState(null, "", link.href);
  open();
  place("main").focus();
}

addEventListener("infoprune-signed-out", (event) => {
  if (key() === null) return;
  setKey(null);
  refused = /** @type {CustomEvent<Error>} */ (event).detail.message;
  open();
});
addEventListener("popstate", () => {
  // The skip link changes what follows the # only.
  if (location.pathname !== opened) open();
});
document.addEventListener("click", follow);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  dispatchEvent(new Event("infoprune-theme"));
  update();
});

try {
  config = await (await fetch("/ui/config.json")).json();
} catch {
  refused = "The gateway cannot be reached; reload this page.";
}
open();
