// The API key: in this tab's sessionStorage only, never in a URL, gone when the tab closes.
const NAME = "infoprune-key";

/** @returns {string | null} the key of this tab */
export function key() {
  return sessionStorage.getItem(NAME);
}

/** @param {string | null} value null forgets the key */
export function setKey(value) {
  if (value === null) sessionStorage.removeItem(NAME);
  else sessionStorage.setItem(NAME, value);
}
