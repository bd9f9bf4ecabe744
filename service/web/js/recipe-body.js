// The form of a compression job as a recipe, and a recipe as what stands in the form.

export const TARGETS = {
  flops: ["Share of FLOPs to keep", 0.5, "0.5 keeps half of the FLOPs before the first token."],
  params: ["Share of parameters to keep", 0.5, "0.5 keeps half of the parameters."],
  latency: ["Share of latency to keep", 0.7, "Of the original's time in vLLM on this machine; the first time, layers are measured for minutes."],
  max_accuracy_drop: ["Accuracy that may be lost", 0.005, "0.005 is half a point: the smallest model that at 95 % confidence loses no more."],
};
export const SCOPE = { vision: "vision tower", projector: "projector", language: "language model" };
const PLAIN = ["scheme", "layout", "allocation", "round_to", "seed", "new_tokens"];
/** Fields of sections: name in the form, section, key. @type {[string, string, string][]} */
const INSIDE = [
  ["calibration-samples", "calibration", "samples"],
  ["evaluation-samples", "evaluation", "samples"],
  ["validation", "evaluation", "validation_samples"],
  ["training", "training", "steps"],
  ["recovery", "recovery", "steps"],
  ["recovery-rate", "recovery", "learning_rate"],
];
const DATA = ["calibration", "evaluation"];

/** @param {HTMLFormElement} form @returns {any} the body of `POST /compress` */
export function bodyOf(form) {
  const given = new FormData(form);
  const get = (/** @type {string} */ name) => String(given.get(name) ?? "");
  const scope = given.getAll("scope");
  /** @type {any} */
  const recipe = {
    [get("target")]: Number(get("value")),
    scheme: get("scheme"), layout: get("layout"), allocation: get("allocation"),
    low_rank_attention: given.has("low_rank_attention"),
    scope: Object.fromEntries(Object.keys(SCOPE).map((name) => [name, scope.includes(name)])),
    round_to: Number(get("round_to")), seed: Number(get("seed")), new_tokens: Number(get("new_tokens")),
    calibration: {}, evaluation: {}, training: {}, recovery: {},
  };
  for (const part of DATA) {
    const own = get(`${part}-own`).split(/[,\n]/).map((each) => each.trim()).filter(Boolean);
    recipe[part].datasets = [...given.getAll(part), ...own];
  }
  for (const [name, section, key] of INSIDE) recipe[section][key] = Number(get(name));
  const name = get("name");
  return { model: get("model"), recipe, priority: get("priority"), ...(name ? { name } : {}) };
}

/** Let the form say what a whole recipe says; model, name and priority stay. @param {HTMLFormElement} form @param {any} recipe */
export function fillIn(form, recipe) {
  const set = (/** @type {string} */ name, /** @type {unknown} */ value) => {
    /** @type {HTMLInputElement} */ (form.elements.namedItem(name)).value = String(value);
  };
  const target = Object.keys(TARGETS).find((each) => recipe[each] !== null) ?? "flops";
  set("target", target);
  retarget(form);
  set("value", recipe[target]);
  for (const name of PLAIN) set(name, recipe[name]);
  for (const [name, section, key] of INSIDE) set(name, recipe[section][key]);
  for (const part of DATA) {
    const left = new Set(recipe[part].datasets);
    for (const box of boxes(form, part)) box.checked = left.delete(box.value);
    set(`${part}-own`, [...left].join(", "));
  }
  for (const box of boxes(form, "scope")) box.checked = recipe.scope[box.value];
  for (const box of boxes(form, "low_rank_attention")) box.checked = recipe.low_rank_attention;
}

/** Say what the value means for the chosen target, and start from its usual one. @param {HTMLFormElement} form */
export function retarget(form) {
  const chosen = /** @type {HTMLSelectElement} */ (form.elements.namedItem("target")).value;
  const [label, value, help] = TARGETS[/** @type {"flops"} */ (chosen)];
  /** @type {HTMLInputElement} */ (form.elements.namedItem("value")).value = String(value);
  /** @type {HTMLElement} */ (form.querySelector("#value-label")).textContent = String(label);
  /** @type {HTMLElement} */ (form.querySelector("#value-help")).textContent = String(help);
}

/** @param {HTMLFormElement} form @param {string} name @returns {NodeListOf<HTMLInputElement>} */
const boxes = (form, name) => form.querySelectorAll(`input[type="checkbox"][name="${name}"]`);
