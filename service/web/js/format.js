// Numbers for people.

/** @typedef {{ value: number, low: number, high: number, n: number }} Interval */

export const NONE = "–";

/** @param {number | null | undefined} value @param {(value: number) => string} how */
const known = (value, how) => (value === null || value === undefined ? NONE : how(value));

/** Three digits with a unit prefix: 1.23 G. @param {number | null | undefined} value */
export function short(value) {
  return known(value, (given) => {
    for (const [factor, prefix] of /** @type {[number, string][]} */ ([
      [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"],
    ])) {
      if (Math.abs(given) >= factor) return `${digits(given / factor, 3)} ${prefix}`;
    }
    return digits(given, 3);
  });
}

/** @param {number} value @param {number} count */
function digits(value, count) {
  return Number(value.toPrecision(count)).toLocaleString("en", { maximumSignificantDigits: count });
}

/** @param {number | null | undefined} value of seconds */
export function ms(value) {
  return known(value, (s) => (s < 1 ? `${digits(1000 * s, 3)} ms` : `${digits(s, 3)} s`));
}

/** @param {number | null | undefined} value @param {string} [unit] */
export function rate(value, unit = "/s") {
  return known(value, (given) => `${digits(given, 3)} ${unit}`.trimEnd());
}

/** @param {number | null | undefined} value */
export const ratio = (value) => known(value, (given) => given.toFixed(3));

/** @param {number | null | undefined} value @param {number} [places] */
export const percent = (value, places = 1) =>
  known(value, (given) => `${(100 * given).toFixed(places)} %`);

/** @param {number} value @param {number} [places] */
export function signed(value, places = 1) {
  const shown = value.toFixed(places);
  return Number(shown) > 0 ? `+${shown}` : Number(shown) === 0 ? shown.replace("-", "") : shown;
}

/** A difference of shares in points. @param {number} value */
export const points = (value) => signed(100 * value);

/** A share with its interval. @param {Interval | undefined} interval */
export const interval = (interval) =>
  interval === undefined
    ? NONE
    : `${interval.value.toFixed(3)} [${interval.low.toFixed(3)}, ${interval.high.toFixed(3)}]`;

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  return known(seconds, (given) => {
    const s = Math.max(0, Math.round(given));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
    return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  });
}

/** @param {number | null | undefined} at seconds since the epoch */
export const when = (at) =>
  known(at, (given) =>
    new Date(1000 * given).toLocaleString("en", {
      month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false,
    }));

/** How much better: "2.00x" and a word. @param {number} by compressed / original, less is better */
export function gain(by, /** @type {string} */ better, /** @type {string} */ worse) {
  return by <= 1
    ? { value: `${(1 / by).toFixed(2)}x`, word: better }
    : { value: `${by.toFixed(2)}x`, word: worse };
}

/** @param {number} bytes */
export const megabytes = (bytes) => `${(bytes / 1024 / 1024).toFixed(1)} MB`;
