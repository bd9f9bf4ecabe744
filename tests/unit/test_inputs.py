"""How much each position counts in calibration."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compressor.inputs import token_weights

IMAGE, PAD, TEXT, ANSWER = 9, 0, 5, 6
VISUAL, WORDS, DECIDES = range(3)

Row = tuple[list[int], int]
"""A prompt's tokens, and how many tokens its answer has."""
PROMPTS = st.lists(st.sampled_from([IMAGE, TEXT]), min_size=1, max_size=12)
ROWS = st.tuples(PROMPTS, st.integers(1, 4))
BATCHES = st.lists(st.lists(ROWS, min_size=1, max_size=4), min_size=1, max_size=3)


def batch_of(rows: list[Row]) -> dict[str, Tensor]:
    """Prompts with their answers, padded on the right."""
    width = max(len(prompt) + answer for prompt, answer in rows)
    ids, mask = torch.full((len(rows), width), PAD), torch.zeros(len(rows), width, dtype=torch.long)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + answer
        ids[row, :end] = torch.tensor(prompt + [ANSWER] * answer)
        mask[row, :end] = 1
    return {"input_ids": ids, "attention_mask": mask}


def kinds_of(rows: list[Row]) -> list[int | None]:
    """Of every position, row by row; None is padding.

    An answer is decided from the last token of the prompt on; the last of the answer decides its end.
    """
    width = max(len(prompt) + answer for prompt, answer in rows)
    found: list[int | None] = []
    for prompt, answer in rows:
        own: list[int | None] = [VISUAL if token == IMAGE else WORDS for token in prompt[:-1]]
        own += [DECIDES] * (answer + 1)
        found += own + [None] * (width - len(own))
    return found


def weighed(batches: list[list[Row]]) -> tuple[list[int | None], Tensor]:
    """The kind of every position of all batches, and its weight."""
    answers = [answer for rows in batches for _, answer in rows]
    weights = token_weights([batch_of(rows) for rows in batches], answers, IMAGE)
    for own, rows in zip(weights, batches, strict=True):
        assert own.shape == batch_of(rows)["input_ids"].flatten().shape
    return [kind for rows in batches for kind in kinds_of(rows)], torch.cat(weights)


@given(BATCHES)
def test_visual_tokens_text_and_answers_count_alike_over_all_batches(
    batches: list[list[Row]],
) -> None:
    """Whatever of them there is; a kind that is absent leaves its part to the others."""
    kinds, weights = weighed(batches)
    present = {kind for kind in kinds if kind is not None}
    assert DECIDES in present
    for kind in present:
        own = weights[[k == kind for k in kinds]]
        assert float(own.sum()) == pytest.approx(1 / len(present), rel=1e-5)
        assert float(own.max()) == pytest.approx(float(own.min())), "none of a kind counts more"
    assert float(weights.sum()) == pytest.approx(1, rel=1e-5)


@given(BATCHES)
def test_padding_counts_nothing_and_everything_else_something(batches: list[list[Row]]) -> None:
    kinds, weights = weighed(batches)
    assert [weight > 0 for weight in weights.tolist()] == [kind is not None for kind in kinds]


@given(st.lists(ROWS, min_size=2, max_size=6), st.data())
def test_how_examples_are_batched_changes_no_weight(rows: list[Row], data: st.DataObject) -> None:
    """But for padding, which counts nothing."""
    cut = data.draw(st.integers(1, len(rows) - 1))
    together, apart = weighed([rows]), weighed([rows[:cut], rows[cut:]])
    used = [
        [w for k, w in zip(*found, strict=True) if k is not None] for found in (together, apart)
    ]
    assert used[0] == used[1]
