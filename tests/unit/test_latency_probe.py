from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compressor import load
from compressor.checkpoint import Compression, read_config
from compressor.errors import LatencyError
from compressor.latency.cache import read_table, write_table
from compressor.latency.probe import (
    LayerTiming,
    Probe,
    Timings,
    grid,
    open_probe,
    probe_shapes,
    table_of,
    write_probe,
)
from compressor.latency.table import EngineIdentity, Seconds
from compressor.pipeline import compress, decide, open_job, score
from compressor.recipe import parse_recipe
from tests.support.random_vlm import KINDS, write_random_vlm
from tests.unit.test_latency_table import table

IDENTITY = EngineIdentity(engine="vllm 1", device="cpu", dtype="float32", threads=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_random_vlm(path, "clip-llama", kv_heads=4)
    return path


@pytest.fixture(scope="module")
def probe(model: Path) -> Probe:
    return open_probe(model)


def timings_by_size(probe: Probe) -> Timings:
    """What a machine would measure on which time is what the parameters say (a made-up one)."""

    def timing(tower: Any, index: int) -> LayerTiming:
        shape = probe.shapes[tower][index]
        spec = next(spec for spec in probe.specs if spec.name == tower)
        ffn = sum(
            (rank or min(spec.matrix_shape(name, shape.ffn_width)))
            for name, rank in shape.ranks.items()
        )
        attention = Seconds(prefill_s=float(len(shape.kv_heads)))
        whole = Seconds(prefill_s=attention.prefill_s + ffn + 0.5)
        return LayerTiming(attention, Seconds(prefill_s=float(ffn)), whole)

    return Timings(
        layers={
            tower: tuple(timing(tower, i) for i in range(len(probe.shapes[tower])))
            for tower in ("vision", "language")
        },
        projector=tuple(Seconds(prefill_s=1.0) for _ in probe.shapes["projector"]),
        rest=Seconds(prefill_s=2.0, decode_s=0.1),
        runs=3,
        spread=0.1,
    )


def test_the_grid_ends_at_the_largest_size() -> None:
    assert grid(688) == [16, 176, 352, 512, 688]
    assert grid(20) == [16, 20]


def test_the_probe_has_every_count_of_groups_and_factors_each_matrix_alone(probe: Probe) -> None:
    language = next(spec for spec in probe.specs if spec.name == "language")
    shapes = probe_shapes(language)

    assert {len(shape.kv_heads) for shape in shapes} == {1, 2, 3, 4}
    factored = [{m for m, r in shape.ranks.items() if r is not None} for shape in shapes]
    assert all(len(each) <= 1 for each in factored)
    assert set().union(*factored) == {"gate_up_proj", "down_proj"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_probe_loads_and_has_a_layer_for_each_shape_with_and_without_window(
    kind: Any, tmp_path: Path
) -> None:
    write_random_vlm(tmp_path / "model", kind)
    probe = open_probe(tmp_path / "model")

    write_probe(probe, tmp_path / "probe")

    section = Compression.of_config(read_config(tmp_path / "probe"))
    assert section is not None
    assert section.towers["vision"] == probe.shapes["vision"]
    assert section.towers["language"] == probe.shapes["language"]
    assert load(tmp_path / "probe") is not None
    vision = next(spec for spec in probe.served()[1] if spec.name == "vision")
    kinds = [window is not None for window in vision.windows] or [False] * vision.used_layers
    seen = {(len(s.kv_heads), kind) for s, kind in zip(probe.shapes["vision"], kinds, strict=True)}
    counts = {count for count, _ in seen}
    assert seen == {(count, kind) for count in counts for kind in set(kinds)}


def test_the_prompt_has_one_image_and_the_reference_requests_text(probe: Probe) -> None:
    token = probe.config["image_token_index"]
    assert probe.prompt.count(token) == 1
    assert len(probe.prompt) == probe.request.text_tokens + 1


def test_the_key_is_of_sizes_machine_and_request(probe: Probe) -> None:
    key = probe.key(IDENTITY)
    wider = tuple(replace(spec, width=2 * spec.width) for spec in probe.specs)
    longer = probe.request.model_copy(update={"text_tokens": 99})

    assert key == replace(probe, source=Path("elsewhere")).key(IDENTITY)
    others = {
        replace(probe, specs=wider).key(IDENTITY),
        replace(probe, request=longer).key(IDENTITY),
        probe.key(IDENTITY.model_copy(update={"threads": 2})),
        probe.key(IDENTITY.model_copy(update={"engine": "vllm 2"})),
    }
    assert len(others | {key}) == 5


def test_a_table_comes_back_from_its_file_and_a_torn_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "x.json"
    assert read_table(path) is None

    write_table(path, table())
    assert read_table(path) == table()

    path.write_text(path.read_text()[:100])
    assert read_table(path) is None
    assert list(path.parent.iterdir()) == [path]


def test_a_compression_plans_by_the_measured_table_and_measures_once(
    probe: Probe, model: Path, tmp_path: Path
) -> None:
    calls = []

    def measure(source: Path, progress: Any) -> Any:
        calls.append(source)
        return table_of(probe, timings_by_size(probe), IDENTITY)

    recipe = parse_recipe({"latency": 0.6, "calibration": {"samples": 8}})
    for _ in range(2):
        job = open_job(model, recipe, tmp_path / "out", measure_latency=measure)
        plan, _ = decide(job, score(job))

    assert calls == [model]
    assert plan.target == "latency"
    assert 0.5 < plan.planned <= 0.6


def test_without_anybody_to_measure_the_sentence_names_the_command(
    model: Path, tmp_path: Path
) -> None:
    recipe = parse_recipe({"latency": 0.6, "calibration": {"samples": 8}})
    with pytest.raises(LatencyError, match="infoprune latency"):
        compress(model, recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
