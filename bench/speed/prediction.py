"""Does the latency table predict what a compressed model takes? Measured, beside what was planned."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from bench.speed.rivals import rivals
from compressor.latency.probe import open_probe
from compressor.pipeline import compress
from compressor.plan import Plan
from compressor.recipe import parse_recipe
from service.latency.engine import engine_identity
from service.latency.measure import latency_table
from service.latency.protocol import Workload
from service.settings import Settings

BLOCKS = 6


def predict(
    model: Path, share: float, folder: Path, *, samples: int, repeats: int, new_tokens: int = 16
) -> dict[str, Any]:
    """Compress to a share of the latency, then time whole requests to both models.

    Args:
        model: an original.
        share: the recipe's `latency`.
        folder: where the compressed model and the engines' logs go.
        samples: calibration questions.
        repeats: requests to each model in each of the blocks, which alternate.
        new_tokens: of the reference request.
    """
    target = folder / f"{model.name}-latency{share:g}"
    recipe = parse_recipe(
        {
            "latency": share,
            "new_tokens": new_tokens,
            "calibration": {"samples": samples},
            "evaluation": {"samples": 0},
        }
    )
    cache = Settings().cache_dir
    compress(
        model, recipe, target,
        measure_latency=lambda source, advance: latency_table(source, cache, progress=advance),
        overwrite=True,
    )  # fmt: skip
    plan = Plan.model_validate_json((target / "plan.json").read_text())
    probe = open_probe(model)
    workload = Workload(
        prompt=probe.prompt, image_size=probe.image_size, new_tokens=new_tokens,
        warmups=2, repeats=repeats,
    )  # fmt: skip
    tokens = probe.request.visual_tokens + probe.request.text_tokens + new_tokens
    settings = {"dtype": engine_identity().dtype, "max_model_len": tokens + 16}
    with rivals((model, target), settings, folder) as both:
        pairs = [both.blocks(workload, swapped=bool(i % 2)) for i in range(BLOCKS)]
    ratios = sorted(median(b) / median(a) for a, b in pairs)
    original = median(seconds for a, _ in pairs for seconds in a)
    compressed = median(seconds for _, b in pairs for seconds in b)
    return {
        "model": model.name,
        "asked": share,
        "predicted": plan.planned,
        "measured": compressed / original,
        "measured_range": [ratios[0], ratios[-1]],
        "original_s": original,
        "compressed_s": compressed,
        "requests": BLOCKS * repeats,
        "new_tokens": new_tokens,
    }
