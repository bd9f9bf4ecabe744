"""The benchmark's requests, their FLOPs by part, and what measured times say about them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from compressor.checkpoint import LayerShape, Tower
from compressor.families import FixedFlops, TowerSpec
from compressor.flops import attention_flops, ffn_flops, keys_of
from service.latency.protocol import Event, Workload

Shapes = Mapping[Tower, Sequence[LayerShape]]
WORDS = range(300, 800)  # ids of plain text in the benchmark's tokenizer


@dataclass(frozen=True)
class Case:
    """`batch` requests at once."""

    name: str
    image: bool
    text_tokens: int
    new_tokens: int
    batch: int

    def workload(self, image_token: int, image_px: int, *, timed: bool) -> Workload:
        """One run of it."""
        words = [WORDS[i % len(WORDS)] for i in range(self.text_tokens)]
        prompt = [image_token, *words] if self.image else words
        return Workload(
            prompt=tuple(prompt),
            image_size=(image_px, image_px) if self.image else None,
            new_tokens=self.new_tokens,
            batch=self.batch,
            warmups=0,
            repeats=1,
            timed=timed,
        )


def cases(*, tiny: bool) -> tuple[Case, ...]:
    """Prefill-heavy: a picture, a long text and few new tokens. Decode-heavy: a short text alone.

    A picture's prefill would be most of the time of 16 answers, so the decode-heavy ones have none.
    """
    text, short, answer, many = (32, 16, 16, 4) if tiny else (256, 64, 128, 16)
    return tuple(
        case
        for batch in (1, many)
        for case in (
            Case(f"prefill-heavy, batch {batch}", True, text, 4, batch),
            Case(f"decode-heavy, batch {batch}", False, short, answer, batch),
        )
    )


def flops_by_part(
    case: Case, specs: Sequence[TowerSpec], shapes: Shapes, fixed: FixedFlops
) -> dict[str, float]:
    """FLOPs of one run of a case: of each tower's attention and FFN, the patches and the logits."""
    language = case.text_tokens + (fixed.visual_tokens if case.image else 0)
    positions = {
        "vision": fixed.vision_positions if case.image else 0,
        "projector": fixed.visual_tokens if case.image else 0,
        "language": language,
    }
    found = {
        "patches": fixed.patch_embedding if case.image else 0.0,
        "logits": fixed.lm_head * case.new_tokens,
    }
    for spec in specs:
        n = positions[spec.name]
        steps = case.new_tokens - 1 if spec.name == "language" else 0
        layers = shapes.get(spec.name) or [spec.dense_layer()] * spec.used_layers
        attention = ffn = 0.0
        for index, shape in enumerate(layers):
            ffn += (n + steps) * ffn_flops(spec, shape.ranks, shape.ffn_width)
            for queries, keys in [(n, n), *((1, n + 1 + step) for step in range(steps))]:
                attention += attention_flops(
                    spec, len(shape.heads), len(shape.kv_heads), shape.attention_ranks, queries=queries,
                    keys=keys_of(spec, index, keys),
                )  # fmt: skip
        if spec.attention is not None:
            found[f"{spec.name} attention"] = attention
        found["projector" if spec.name == "projector" else f"{spec.name} FFN"] = ffn
    return {part: case.batch * flops for part, flops in found.items()}


def seconds_by_part(seconds: float, events: Mapping[str, Sequence[Event]]) -> dict[str, float]:
    """One timed run by part; the `engine` is what no timed module took."""
    found: dict[str, float] = {}
    whole = 0.0
    for name, seen in events.items():
        spent = sum(each for _, each in seen)
        place, _, part = name.rpartition("/")
        tower = place.partition("/")[0]
        if part == "whole":
            whole += spent
            rest = "projector" if tower == "projector" else f"{tower} norms"
            found[rest] = found.get(rest, 0.0) + spent
        elif place:
            label = f"{tower} {'FFN' if part == 'ffn' else part}"
            found[label] = found.get(label, 0.0) + spent
            found[f"{tower} norms"] = found.get(f"{tower} norms", 0.0) - spent
        else:
            whole += spent
            found[part] = found.get(part, 0.0) + spent
    return {**found, "engine": seconds - whole}


def compare(
    pairs: Sequence[tuple[float, float]],
    parts: tuple[Mapping[str, float], Mapping[str, float]],
    flops: tuple[Mapping[str, float], Mapping[str, float]],
) -> dict[str, Any]:
    """What a case shows.

    Args:
        pairs: (original, compressed) seconds of runs beside each other.
        parts: seconds by part of a timed run of each.
        flops: FLOPs by part of each.
    """
    original, compressed = median(a for a, _ in pairs), median(b for _, b in pairs)
    ratios = sorted(a / b for a, b in pairs)
    theory = sum(flops[0].values()) / sum(flops[1].values())
    speedup = original / compressed
    return {
        "original_s": original,
        "compressed_s": compressed,
        "speedup": speedup,
        "speedup_range": [ratios[0], ratios[-1]],
        "pairs": len(pairs),
        "flops_ratio": theory,
        "realised": speedup / theory,
        "parts": {part: _part(part, parts, flops) for part in sorted(parts[0])},
    }


def _part(
    part: str,
    parts: tuple[Mapping[str, float], Mapping[str, float]],
    flops: tuple[Mapping[str, float], Mapping[str, float]],
) -> dict[str, float]:
    """A part's seconds in both, and what the compressed one takes beyond its share of FLOPs.

    The excess of a part without FLOPs is all that it takes beyond the ideal in which time falls with
    the FLOPs of the whole model.
    """
    before, after = parts[0].get(part, 0.0), parts[1].get(part, 0.0)
    total = sum(flops[1].values()) / sum(flops[0].values())
    counted = flops[0].get(part, 0.0)
    share = flops[1].get(part, 0.0) / counted if counted else total
    return {
        "original_s": before,
        "compressed_s": after,
        "flops_share": share if counted else 0.0,
        "excess_s": after - before * share,
    }
