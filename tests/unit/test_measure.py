"""Both models' accuracy in one process: answers are asked for once, intervals draw whole pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compressor.errors import CheckpointError
from compressor.evaluate.datasets import examples
from compressor.evaluate.generated.canvas import Split
from compressor.evaluate.metrics import bootstrap, cautious_difference
from compressor.job import open_job
from compressor.measure import drop_on_validation, evaluate_pair
from compressor.recipe import Evaluation, parse_recipe
from compressor.work import Work
from tests.support.random_vlm import write_random_llava

DRAWN = "drawn-scenes"
QUESTIONS = 400
NO_MODEL = Path("there-is-no-model-here")
CPU = torch.device("cpu")


def by_picture(split: Split) -> tuple[list[float], list[str]]:
    """A second model's scores that are the same for all questions about a picture; its pictures."""
    pictures = [e.group for e in examples(DRAWN, split, samples=QUESTIONS, seed=0)]
    order = sorted(set(pictures))
    assert len(order) < QUESTIONS  # several questions about one picture
    return [float(order.index(name) % 3 == 0) for name in pictures], pictures


def ignore(_share: float) -> None:
    """Progress that nobody watches."""


def test_answers_that_are_kept_are_not_asked_again_and_intervals_draw_whole_pictures(
    tmp_path: Path,
) -> None:
    work = Work(tmp_path / "work", {})
    scores, pictures = by_picture("test")
    work.save_json("evaluate/original-cpu-0.json", [1.0] * QUESTIONS)
    work.save_json("evaluate/compressed-cpu-0.json", scores)
    evaluation = Evaluation(datasets=(DRAWN,), samples=QUESTIONS)

    found = evaluate_pair(NO_MODEL, NO_MODEL, None, evaluation, 0, work, device=CPU, advance=ignore)

    assert found.original[DRAWN].value == 1.0
    assert found.compressed[DRAWN] == bootstrap(scores, groups=pictures)
    differences = [score - 1.0 for score in scores]
    assert found.difference[DRAWN] == bootstrap(differences, groups=pictures)
    single = bootstrap(differences)
    drawn = found.difference[DRAWN]
    assert drawn.high - drawn.low > single.high - single.low


def test_the_bound_of_a_search_is_held_against_whole_pictures(tmp_path: Path) -> None:
    before, after = (Work(tmp_path / name, {}) for name in ("before", "after"))
    scores, pictures = by_picture("validation")
    before.save_json("validate-cpu-0.json", [1.0] * QUESTIONS)
    after.save_json("validate-cpu-0.json", scores)
    evaluation = Evaluation(datasets=(DRAWN,), validation_samples=QUESTIONS)

    found = drop_on_validation(
        NO_MODEL, NO_MODEL, None, evaluation, 0, (before, after), device=CPU, advance=ignore
    )

    expected = cautious_difference(
        {DRAWN: [1.0] * QUESTIONS}, {DRAWN: scores}, groups={DRAWN: pictures}
    )
    assert found == expected


def test_a_model_that_is_needed_and_missing_is_an_error(tmp_path: Path) -> None:
    evaluation = Evaluation(datasets=(DRAWN,), samples=QUESTIONS)
    work = Work(tmp_path / "work", {})
    with pytest.raises(CheckpointError):
        evaluate_pair(NO_MODEL, NO_MODEL, None, evaluation, 0, work, device=CPU, advance=ignore)


def test_a_gpu_asks_while_it_has_room_for_weights_and_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, recipe = tmp_path / "model", parse_recipe({"flops": 0.5})
    write_random_llava(model, kv_heads=4)
    weights = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    job = open_job(model, recipe, tmp_path / "out")
    assert job.asking_device == job.device == CPU
    for free, expected in ((3 * weights, "cuda"), (2 * weights, "cpu")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 10 * weights))
        assert replace(job, device=torch.device("cuda")).asking_device.type == expected
