"""Whether tensor-parallel ranks can share a compressed layer out."""

from __future__ import annotations

from compressor.checkpoint import LayerShape
from compressor.errors import CheckpointError

_ELSE = "choose another size, or use pipeline or data parallelism."


def check_shards(shape: LayerShape, index: int, ranks: int) -> None:
    """Refuse a language layer whose heads or neurons `ranks` cannot share out evenly.

    Raises:
        CheckpointError: naming the layer and what to do.
    """
    size = f"--tensor-parallel-size {ranks}"
    if shape.ffn_width and shape.ffn_width % ranks:
        raise CheckpointError(
            f"Language layer {index} keeps {shape.ffn_width} neurons, "
            f"which {size} does not divide; {_ELSE}"
        )
    kv_heads = len(shape.kv_heads)
    fits = kv_heads % ranks == 0 or (ranks % kv_heads == 0 and len(shape.heads) % ranks == 0)
    # A k or v that is factored on its own is split by rows, and no row is computed twice.
    if {"k_proj", "v_proj"} & set(shape.attention_ranks):
        fits = kv_heads % ranks == 0
    if not fits:
        raise CheckpointError(
            f"Language layer {index} keeps {len(shape.heads)} heads in {kv_heads} KV groups, which "
            f"{size} does not divide; {_ELSE}"
        )
