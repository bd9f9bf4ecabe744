// What can be done with an alias, each behind a dialog that says what it does.
import { api, segment } from "./api.js";
import { ask } from "./ui.js";

/** @typedef {import("./canary.js").Act} Act */

const WHY = { name: "reason", label: "Why, for the history" };

/** "a=9, b=1" or "a" as targets. @param {string} text */
export function targetsOf(text) {
  return text.split(/[,\s]+/).filter(Boolean).map((part) => {
    const [model, weight] = part.split("=");
    return { model, weight: weight === undefined ? 1 : Number(weight) };
  });
}

/** @param {any} alias */
export const weightsOf = (alias) =>
  alias.targets.length === 1 ? alias.targets[0].model
    : alias.targets.map((/** @type {any} */ t) => `${t.model}=${t.weight}`).join(", ");

/** @param {string | null} name null for a new one @param {string} weights @param {Act} act */
export async function setAlias(name, weights, act) {
  const said = await ask({
    title: name === null ? "New alias" : `Who answers ${name}?`, action: "Save",
    text: "Clients ask for the alias, and you choose who answers. With several models: NAME=WEIGHT, separated by commas.",
    fields: [
      ...(name === null ? [{ name: "name", label: "Alias", required: true, help: "Letters, digits, '.', '_', '-'; such as prod." }] : []),
      { name: "targets", label: "Models", value: weights, required: true, help: "Such as shapes-llava=9, shapes-llava-flops0.5=1." },
      WHY,
    ],
  });
  if (said === null) return;
  const target = name ?? said.name;
  const body = { targets: targetsOf(said.targets), reason: said.reason };
  await act(() => api("PUT", `/aliases/${segment(target)}`, { body }), `The alias ${target} is set.`);
}

/** @param {string} name @param {string[]} models @param {Act} act */
export async function startShadow(name, models, act) {
  const said = await ask({
    title: `Copy requests to ${name}`, action: "Start copying",
    text: "A share of the requests goes to the candidate as well. No client gets its answers; they are compared.",
    fields: [
      { name: "candidate", label: "Candidate", options: models },
      { name: "share", label: "Share of the requests, %", type: "number", value: 25, min: 1, max: 100 },
      WHY,
    ],
  });
  if (said === null) return;
  const body = { candidate: said.candidate, share: Number(said.share) / 100, reason: said.reason };
  await act(() => api("POST", `/aliases/${segment(name)}/shadow`, { body }), `Requests to ${name} are copied to ${said.candidate}.`);
}

/** @param {string} name @param {string | string[]} candidate @param {Act} act */
export async function startCanary(name, candidate, act) {
  const models = typeof candidate === "string" ? [candidate] : candidate;
  const said = await ask({
    title: `Canary on ${name}`, action: "Start canary",
    text: "The candidate answers a growing share of the requests while agreement, errors and p95 hold, and is rolled back by itself otherwise.",
    fields: [
      { name: "candidate", label: "Candidate", options: models },
      { name: "steps", label: "Steps, % of the requests", value: "1, 5, 25, 50, 100", required: true },
      { name: "min_samples", label: "Answers at each step, at least", type: "number", value: 200, min: 1 },
      { name: "min_agreement", label: "Agreement that must be shown", type: "number", value: 0.9, min: 0.01, max: 0.99, step: "any" },
      WHY,
    ],
  });
  if (said === null) return;
  const body = {
    candidate: said.candidate, steps: said.steps.split(/[,\s]+/).filter(Boolean).map(Number),
    min_samples: Number(said.min_samples), min_agreement: Number(said.min_agreement), reason: said.reason,
  };
  await act(() => api("POST", `/aliases/${segment(name)}/canary`, { body }), `A canary of ${said.candidate} began on ${name}.`);
}

/** @param {string} name @param {Act} act */
export async function endShadow(name, act) {
  const said = await ask({ title: `Stop copying requests to ${name}?`, text: "What was compared so far is kept in the history.", action: "Stop copying" });
  if (said !== null) await act(() => api("DELETE", `/aliases/${segment(name)}/shadow`), `Requests to ${name} are no longer copied.`);
}

/** @param {string} name @param {Act} act */
export async function deleteAlias(name, act) {
  const said = await ask({
    title: `Delete the alias ${name}?`, text: "Clients that ask for it get an error from then on. Its models stay.",
    action: "Delete", danger: true,
  });
  if (said !== null) await act(() => api("DELETE", `/aliases/${segment(name)}`), `The alias ${name} is deleted.`);
}
