// The one place that knows where lit-html lies.
export { html, nothing, render, svg } from "../vendor/lit-html/lit-html.js";
