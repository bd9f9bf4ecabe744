/**
 * A server-sent event.
 * @typedef {{ event: string, data: string }} ServerEvent
 */

/**
 * Cuts a stream of text into server-sent events (HTML standard, section 9.2): fields `event` and `data`.
 */
export class EventParser {
  #rest = "";

  /**
   * @param {string} text the next piece, cut anywhere
   * @returns {ServerEvent[]} the events that it completes
   */
  feed(text) {
    const parts = (this.#rest + text).replaceAll("\r\n", "\n").split("\n\n");
    this.#rest = parts.pop() ?? "";
    return parts.map(parse).filter((event) => event !== null);
  }
}

/** @param {string} block @returns {ServerEvent | null} null for a comment */
function parse(block) {
  let event = "message";
  /** @type {string[]} */
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? { event, data: data.join("\n") } : null;
}
