"""What tensor-parallel ranks cannot share out is refused before vLLM stumbles over it."""

from __future__ import annotations

import pytest

from compressor.checkpoint import LayerShape
from compressor.errors import CheckpointError
from service.vllm_plugin.sharding import check_shards


def layer(heads: int, kv_heads: int, width: int | None = None, *factored: str) -> LayerShape:
    return LayerShape(
        heads=tuple(range(heads)),
        kv_heads=tuple(range(kv_heads)),
        ranks={},
        ffn_width=width,
        attention_ranks=dict.fromkeys(factored, 8),
    )


@pytest.mark.parametrize(
    "shape",
    [
        layer(4, 4, 96),
        layer(4, 4),  # the original's width: vLLM's own matter
        layer(6, 2, 96, "qkv_proj"),
        layer(4, 1, 96),  # one KV head, which both ranks hold
        layer(4, 1, 96, "q_proj", "o_proj"),
    ],
)
def test_what_two_ranks_can_share_is_let_through(shape: LayerShape) -> None:
    check_shards(shape, 5, ranks=2)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (layer(3, 3, 96), "keeps 3 heads in 3 KV groups"),
        (layer(4, 1, 96, "k_proj"), "keeps 4 heads in 1 KV groups"),
        (layer(4, 4, 95), "keeps 95 neurons"),
    ],
)
def test_what_they_cannot_is_refused_in_a_sentence(shape: LayerShape, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=f"Language layer 5 {sentence}.*size 2 does not"):
        check_shards(shape, 5, ranks=2)
    check_shards(shape, 5, ranks=1)
