"""The probe: a random model of the same architecture whose every layer has another shape.

Served once, it shows the time of all shapes that an allocation may choose from. Weights are random and
the output is noise; times do not depend on either.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from compressor.checkpoint import LayerShape, Tower, read_config, writing
from compressor.families import Family, TowerSpec, family_of
from compressor.latency.table import (
    TABLE_VERSION,
    Curve,
    EngineIdentity,
    LatencyTable,
    ReferenceRequest,
    Seconds,
    TowerLatency,
)

DEEP: tuple[Tower, ...] = ("vision", "language")
_MULTIPLE = 16
_SHARES = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class LayerTiming:
    """What was measured of one layer; the medians of many requests."""

    attention: Seconds
    ffn: Seconds
    whole: Seconds


@dataclass(frozen=True)
class Timings:
    """What an engine measured of a probe."""

    layers: dict[Tower, tuple[LayerTiming, ...]]
    """Vision and language, in the order of the probe's layers."""
    projector: tuple[Seconds, ...]
    """Of the probe's projector shapes."""
    rest: Seconds
    """Of a request, outside all layers and the projector."""
    runs: int
    spread: float
    """Of whole requests: the middle half's range over the median."""


@dataclass(frozen=True)
class Probe:
    """An architecture, the request that is timed, and the shapes to measure."""

    source: Path
    config: dict[str, Any]
    family: Family
    specs: tuple[TowerSpec, ...]
    request: ReferenceRequest
    prompt: tuple[int, ...]
    """Token ids, the image's placeholder among them once."""
    image_size: tuple[int, int]
    """Pixels, width and height."""
    shapes: dict[Tower, tuple[LayerShape, ...]]

    def served(self) -> tuple[dict[str, Any], tuple[TowerSpec, ...]]:
        """Config of the probe before compression, and its towers: a layer for each shape."""
        depths = {tower: len(self.shapes[tower]) for tower in DEEP}
        config = self.family.with_depths(self.config, depths)
        return config, self.family.towers(config)

    def key(self, identity: EngineIdentity) -> str:
        """The name of its table: a hash of all that the times depend on."""
        from compressor.export import stored_dtype

        content = {
            "version": TABLE_VERSION,
            "specs": [asdict(spec) for spec in self.specs],
            "fixed": asdict(self.family.fixed_flops(self.config, self.request.patches)),
            "architecture": self.family.architecture,
            "types": [
                self.config.get(name, {}).get("model_type")
                for name in ("vision_config", "text_config")
            ],
            # The engine's dtype may be "auto", which looks at this.
            "dtype": str(stored_dtype(self.config)),
            "request": self.request.model_dump(),
            "identity": identity.model_dump(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def open_probe(source: Path) -> Probe:
    """Look at an original: which shapes are to be measured, on which request.

    Raises:
        CompressorError: it is not a model of a known family.
    """
    from transformers import AutoProcessor

    from compressor import inputs

    config = read_config(source)
    family = family_of(config)
    specs = family.towers(config)
    processor: Any = AutoProcessor.from_pretrained(source)
    text_tokens, patches = inputs.reference_request(processor, family)
    prompt, image_size = inputs.reference_prompt(processor, text_tokens)
    visual = family.fixed_flops(config, patches).visual_tokens
    return Probe(
        source,
        config,
        family,
        specs,
        ReferenceRequest(text_tokens=text_tokens, patches=patches, visual_tokens=visual),
        prompt,
        image_size,
        {spec.name: tuple(probe_shapes(spec)) for spec in specs},
    )


def probe_shapes(spec: TowerSpec) -> list[LayerShape]:
    """The shapes of a tower that are measured; each is a layer of the probe.

    FFNs are narrowed, or have one matrix factored, up to its break-even rank `m n / (m + n)`. The
    dense one is there twice. Attentions go round beside them: fewer KV groups, or one matrix factored,
    each in two layers running where there are windows, of which one has a window.
    """
    dense = spec.dense_layer()
    ffns: list[tuple[int | None, dict[str, int | None]]] = [(None, dense.ranks)] * 2
    if spec.attention is not None:
        ffns += [(w, dense.ranks) for w in grid(spec.ffn_width) if w < spec.ffn_width]
    for name in spec.ffn_names:
        for rank in rank_grid(spec.matrix_shape(name)):
            ffns.append((None, {**dense.ranks, name: rank}))
    if spec.attention is None:
        return [LayerShape(heads=(), kv_heads=(), ranks=r, ffn_width=w) for w, r in ffns]
    attentions = _attention_shapes(spec)
    length = max(len(ffns), len(attentions))
    return [
        LayerShape(
            heads=tuple(range(count * spec.group)),
            kv_heads=tuple(range(count)),
            ranks=ranks,
            ffn_width=width,
            attention_ranks=factored,
        )
        for (width, ranks), (count, factored) in islice(
            zip(cycle(ffns), cycle(attentions), strict=False), length
        )
    ]


def _attention_shapes(spec: TowerSpec) -> list[tuple[int, dict[str, int]]]:
    """Numbers of KV groups, and ranks of one matrix with all groups."""
    counts = sorted({max(1, round(s * spec.kv_heads)) for s in (0.0, *_SHARES)}, reverse=True)
    found: list[tuple[int, dict[str, int]]] = [(n, {}) for n in counts for _ in range(2)]
    sizes = spec.projection_shapes(spec.heads, spec.kv_heads, joint=True)
    for name in spec.factored:
        for rank in rank_grid(sizes[name]):
            found += [(spec.kv_heads, {name: rank})] * (2 if spec.windows else 1)
    return found


def rank_grid(size: tuple[int, int]) -> list[int]:
    """Ranks of a matrix of `size` = (out, in) that are measured, up to its break-even rank."""
    even = size[0] * size[1] // (size[0] + size[1])
    return grid(even // _MULTIPLE * _MULTIPLE or even)


def grid(largest: int) -> list[int]:
    """Sizes up to `largest` that are measured: 16, then quarters, rounded to multiples of 16."""
    rounded = {max(_MULTIPLE, round(s * largest / _MULTIPLE) * _MULTIPLE) for s in _SHARES}
    return sorted({min(size, largest) for size in rounded | {_MULTIPLE, largest}})


def write_probe(probe: Probe, directory: Path, *, seed: int = 0) -> None:
    """Write the probe as a checkpoint, in the dtype of the original."""
    from compressor.export import copied_files, stored_dtype
    from compressor.random_model import write_random_weights

    towers: dict[Tower, tuple[LayerShape, ...]] = {t: probe.shapes[t] for t in DEEP}
    config, _ = probe.served()
    with writing(directory) as place:
        for path in copied_files(probe.source):
            shutil.copyfile(path, place / path.name)
        write_random_weights(place, config, towers, seed=seed, dtype=stored_dtype(probe.config))


def table_of(probe: Probe, timings: Timings, identity: EngineIdentity) -> LatencyTable:
    """The table of what was measured."""
    towers: dict[Tower, TowerLatency] = {}
    for spec in probe.served()[1]:
        shapes = probe.shapes[spec.name]
        if spec.attention is None:
            towers[spec.name] = tower_latency(spec, shapes, timings.projector)
            continue
        layers = timings.layers[spec.name]
        found = tower_latency(spec, shapes, [t.ffn for t in layers])
        towers[spec.name] = found.model_copy(
            update={
                "attention": attention_curve(spec, shapes, layers, windowed=False),
                "windowed": attention_curve(spec, shapes, layers, windowed=True),
                "attention_rank": attention_rank_curves(spec, shapes, layers),
                "rest": median_of(t.whole - t.attention - t.ffn for t in layers),
            }
        )
    return LatencyTable(
        architecture=probe.family.architecture,
        request=probe.request,
        identity=identity,
        towers=towers,
        rest=timings.rest,
        runs=timings.runs,
        spread=timings.spread,
    )


def attention_curve(
    spec: TowerSpec,
    shapes: Sequence[LayerShape],
    layers: Sequence[LayerTiming],
    *,
    windowed: bool,
) -> Curve | None:
    """Attention by KV groups in the layers with or without a window; None where there are none."""
    windows = spec.windows or (None,) * len(shapes)
    found = [
        (len(shape.kv_heads), timing.attention)
        for shape, timing, window in zip(shapes, layers, windows, strict=True)
        if (window is not None) == windowed and not shape.attention_ranks
    ]
    return Curve.fitted(found) if found else None


def attention_rank_curves(
    spec: TowerSpec, shapes: Sequence[LayerShape], layers: Sequence[LayerTiming]
) -> dict[str, Curve]:
    """Attention by the rank of its one factored matrix, in the layers without a window."""
    windows = spec.windows or (None,) * len(shapes)
    found: dict[str, list[tuple[int, Seconds]]] = {name: [] for name in spec.factored}
    for shape, timing, window in zip(shapes, layers, windows, strict=True):
        for name, rank in shape.attention_ranks.items() if window is None else ():
            found[name].append((rank, timing.attention))
    return {name: Curve.fitted(times) for name, times in found.items()}


def tower_latency(
    spec: TowerSpec, shapes: Sequence[LayerShape], ffns: Sequence[Seconds]
) -> TowerLatency:
    """Sort a tower's measured FFNs into their curves."""
    widths: list[tuple[int, Seconds]] = []
    ranks: dict[str, list[tuple[int, Seconds]]] = {name: [] for name in spec.ffn_names}
    for shape, seconds in zip(shapes, ffns, strict=True):
        factored = [(name, rank) for name, rank in shape.ranks.items() if rank is not None]
        for name, rank in factored:
            ranks[name].append((rank, seconds))
        if not factored:
            widths.append((shape.ffn_width or spec.ffn_width, seconds))
    return TowerLatency(
        attention=None,
        ffn_width=Curve.fitted(widths),
        ffn_rank={name: Curve.fitted(found) for name, found in ranks.items()},
        rest=Seconds(),
    )


def median_of(seconds: Iterable[Seconds]) -> Seconds:
    """The median of each phase, not below zero."""
    found = list(seconds)
    return Seconds(
        prefill_s=max(0.0, median(s.prefill_s for s in found)),
        decode_s=max(0.0, median(s.decode_s for s in found)),
    )
