// Which two models are compared. Pure.

/**
 * @typedef {{ original: string, compressed: string }} Pair
 * @typedef {{ value: string, label: string, alias: string | null, pair: Pair | null }} Choice
 */

/**
 * What can be chosen: every alias, then every compressed model beside its original.
 * @param {any[]} models as `GET /v1/models` lists them
 * @returns {Choice[]}
 */
export function choices(models) {
  const aliases = models.filter((model) => model.variant === "alias");
  const compressed = models.filter((model) => model.variant === "compressed" && model.base);
  return [
    ...aliases.map((alias) => ({
      value: `alias:${alias.id}`, label: `alias ${alias.id}`, alias: alias.id,
      pair: pairOf({ targets: alias.targets, canary: canaryOf(alias) }, models),
    })),
    ...compressed.map((model) => ({
      value: `${model.base}>${model.id}`, label: `${model.base} → ${model.id}`, alias: null,
      pair: { original: model.base, compressed: model.id },
    })),
  ];
}

/** @param {any} alias of `/v1/models` */
function canaryOf(alias) {
  const [candidate] = Object.keys(alias.canary ?? {});
  return candidate ? { candidate, reference: alias.targets[0].model } : null;
}

/**
 * The two models that an alias is about; null where it has one model only.
 * @param {any} alias with targets, canary, shadow and last_canary, as far as they are known
 * @param {any[]} models
 * @returns {Pair | null}
 */
export function pairOf(alias, models) {
  const running = alias.canary;
  if (running) return { original: running.reference, compressed: running.candidate };
  const [first, second] = alias.targets.map((/** @type {any} */ target) => target.model);
  if (alias.shadow) return { original: first, compressed: alias.shadow.candidate };
  if (second) return ordered(first, second, models);
  const last = alias.last_canary;
  if (last) return { original: last.reference, compressed: last.candidate };
  const known = models.find((model) => model.id === first);
  if (known?.base) return { original: known.base, compressed: first };
  const child = models.find((model) => model.base === first);
  return child ? { original: first, compressed: child.id } : null;
}

/** @param {string} a @param {string} b @param {any[]} models @returns {Pair} */
function ordered(a, b, models) {
  const isCompressed = models.find((model) => model.id === a)?.variant === "compressed";
  return isCompressed ? { original: b, compressed: a } : { original: a, compressed: b };
}
