// The gateway's HTTP interface. Every failure becomes an ApiError with one clear sentence.
import { key } from "./session.js";
import { EventParser } from "./sse.js";

export const UNREACHABLE =
  "The gateway cannot be reached: it may be restarting. This page tries again by itself.";
const BROKE_OFF = "The connection broke off before the answer was complete; try again.";

/** What went wrong, in one sentence. */
export class ApiError extends Error {
  /**
   * @param {string} message one sentence
   * @param {number} status of HTTP; 0 where there was no answer
   * @param {string} code of the gateway
   */
  constructor(message, status, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @typedef {{ body?: unknown, signal?: AbortSignal }} Options
 */

/**
 * Ask for JSON.
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export async function api(method, path, options = {}) {
  const response = await send(method, path, options);
  return response.json();
}

/** @param {string} path @returns {Promise<string>} */
export async function text(path) {
  return (await send("GET", path, {})).text();
}

/**
 * Read server-sent events until the stream ends.
 * @param {string} method
 * @param {string} path
 * @param {Options} options
 * @param {(event: import("./sse.js").ServerEvent) => void} hear
 */
export async function stream(method, path, options, hear) {
  const response = await send(method, path, options);
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      for (const event of parser.feed(value)) hear(event);
    }
  } catch (error) {
    if (isAbort(error) || error instanceof ApiError) throw error;
    throw new ApiError(BROKE_OFF, 0, "broke_off");
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** @param {unknown} error @returns {boolean} whether this page itself gave the request up */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/** A name as a part of a path. @param {string} name */
export const segment = (name) => encodeURIComponent(name);

/**
 * @param {string} method
 * @param {string} path
 * @param {Options} options
 * @returns {Promise<Response>} a good one
 */
async function send(method, path, { body, signal }) {
  /** @type {Record<string, string>} */
  const headers = { "x-infoprune-actor": "web page" };
  const shown = key();
  if (shown !== null) headers.authorization = `Bearer ${shown}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, signal, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(UNREACHABLE, 0, "unreachable");
  }
  if (response.ok) return response;
  const error = await failure(response);
  if (error.status === 401) dispatchEvent(new CustomEvent("infoprune-signed-out", { detail: error }));
  throw error;
}

/** @param {Response} response @returns {Promise<ApiError>} */
async function failure(response) {
  try {
    const { error } = await response.json();
    return new ApiError(error.message, response.status, error.code);
  } catch {
    return new ApiError(`The gateway answered with status ${response.status}.`, response.status);
  }
}
