from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressor.evaluate.datasets import examples
from compressor.heal import relative_distance
from compressor.loading import load
from compressor.training import Batches, final_hidden, task_loss, warmup_cosine

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


def test_the_distance_counts_where_answers_are_decided_and_nowhere_else() -> None:
    """Of four positions the second and third decide the tokens after them."""
    wanted, answers = torch.ones(1, 4, 4), torch.tensor([[False, True, True]])
    hidden = wanted.clone()
    hidden[0, [0, 3]] = 99
    assert float(relative_distance(hidden, wanted, answers)) == 0
    hidden[0, 1] = 0
    assert float(relative_distance(hidden, wanted, answers)) == pytest.approx(0.5)


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
