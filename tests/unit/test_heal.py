from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressor.evaluate.datasets import examples
from compressor.heal import make_optimizer, recover, relative_distance
from compressor.loading import load
from compressor.recipe import Recovery
from compressor.training import Batches, all_hidden, final_hidden, task_loss, warmup_cosine

BUNDLED = Path(__file__).parents[2] / "models" / "shapes-llava"


def test_the_batch_of_a_step_is_always_the_same() -> None:
    first, again, other = (_batches().at(step) for step in (3, 3, 4))
    assert torch.equal(first.arguments["input_ids"], again.arguments["input_ids"])
    assert not torch.equal(first.arguments["pixel_values"], other.arguments["pixel_values"])


def test_the_task_loss_of_a_trained_model_is_small_and_that_of_wrong_answers_large() -> None:
    """Were the answers' positions off by one, a model that is right would have a large loss."""
    model = load(BUNDLED, dtype=torch.float32)
    batch = _batches().at(0)
    with torch.no_grad():
        hidden = final_hidden(model, batch)
        right = float(task_loss(model, hidden, batch))
        batch.arguments["input_ids"][:, 1:][batch.answers] = 7
        wrong = float(task_loss(model, hidden, batch))
    assert right < 0.1
    assert wrong > 1


def test_the_distance_counts_only_positions_that_count() -> None:
    wanted, counted = torch.ones(1, 4, 4), torch.tensor([[False, True, True, False]])
    hidden = wanted.clone()
    hidden[0, [0, 3]] = 99
    assert float(relative_distance(hidden, wanted, counted)) == 0
    hidden[0, 1] = 0
    assert float(relative_distance(hidden, wanted, counted)) == pytest.approx(0.5)


def test_recovery_brings_a_disturbed_model_nearer_to_its_teacher() -> None:
    """In final states where answers are decided, and behind the layers before."""
    settings = Recovery(steps=16, learning_rate=1e-4, batch=4)
    teacher, student = (load(BUNDLED, dtype=torch.float32) for _ in range(2))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in student.get_submodule("model.language_model").parameters():
            noise = torch.randn_like(parameter) * parameter.std(correction=0)
            parameter.add_(noise, alpha=0.5)
    before = _gaps(student, teacher)
    recover(student, teacher, _batches(), settings, make_optimizer(student, settings))
    after = _gaps(student, teacher)
    assert after[0] < 0.7 * before[0]
    assert after[1] < before[1]


def _gaps(student: torch.nn.Module, teacher: torch.nn.Module) -> tuple[float, float]:
    """Relative distances of a held-out batch: of final states at answers, of the fourth layer."""
    batch = _batches().at(1000)
    with torch.no_grad():
        ours, theirs = all_hidden(student, batch), all_hidden(teacher, batch)
    final = relative_distance(ours[-1][:, :-1], theirs[-1][:, :-1], batch.answers)
    return float(final), float(relative_distance(ours[4], theirs[4], batch.used))


def test_the_learning_rate_rises_and_falls() -> None:
    shares = [warmup_cosine(step, 100) for step in range(100)]
    assert max(shares) == 1
    assert shares[0] < 0.5 > shares[-1]
    assert all(share > 0 for share in shares)


def _batches() -> Batches:
    from transformers import AutoProcessor

    pool = examples("easy-vqa", "train", samples=32)
    processor = AutoProcessor.from_pretrained(BUNDLED)
    return Batches(processor, pool, batch=4, seed=1, device=torch.device("cpu"))
