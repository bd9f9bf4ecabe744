"""InfoPrune's compressor: scores heads and FFNs by information content, prunes, exports.

`compressor.load(DIR)` gives a transformers model of an original or compressed checkpoint;
`compressor.pipeline` is where to read on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compressor.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> object:
    # Lazy: the vLLM plugin and the gateway import parts of this package and must not pay for torch.
    if name == "load":
        from compressor.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
