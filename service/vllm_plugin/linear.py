"""Dense or factored linears, made of vLLM's parallel ones so that tensor parallelism stays right.

With tensor parallelism every rank has the whole of the small factor's side: a column-parallel linear
is split at the output factor, a row-parallel one at the input factor, where the sum over ranks then
is of `rank` numbers instead of `out`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)
from vllm.model_executor.models.utils import WeightsMapper

from compressor.checkpoint import QKV, factor_names


class FactoredLinear(nn.Module):
    """`y = B (A x) + bias`: the input factor A is (rank, in), the output factor B (out, rank)."""

    def __init__(self, in_factor: nn.Module, out_factor: nn.Module) -> None:
        super().__init__()
        self.in_factor = in_factor
        self.out_factor = out_factor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(..., in) -> ((..., out), None): vLLM's linears answer with a pair."""
        y, _ = self.in_factor(x)
        pair: tuple[Tensor, Tensor | None] = self.out_factor(y)
        return pair


class UnpairedFactoredLinear(FactoredLinear):
    """The same for a place where a plain tensor is expected."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(..., in) -> (..., out)."""
        return super().forward(x)[0]


def unpaired(linear: nn.Module) -> nn.Module:
    """A factored linear that answers with its output alone."""
    assert isinstance(linear, FactoredLinear)
    return UnpairedFactoredLinear(linear.in_factor, linear.out_factor)


class SplitQKV(nn.Module):
    """q, k and v as linears of their own, in the place of vLLM's fused one."""

    def __init__(self, q: nn.Module, k: nn.Module, v: nn.Module) -> None:
        super().__init__()
        self.q, self.k, self.v = q, k, v

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(..., D) -> ((..., q + k + v), None)."""
        return torch.cat([each(x)[0] for each in (self.q, self.k, self.v)], dim=-1), None


def factor_mapper() -> WeightsMapper:
    """From the file's flat names to the modules': `fc1_in_factor.` -> `fc1.in_factor.`.

    Those of attention and of gated FFNs get the names that dense ones have, under which `split_mapper`
    or vLLM's own merging finds them.
    """
    names = {
        "self_attn": ("q", "k", "v", "qkv", "o", "out"),
        "mlp": ("gate", "up", "gate_up", "down"),
    }
    known = {
        f".{part}.{flat}.": f".{part}.{name}_proj.{flat.removeprefix(f'{name}_')}."
        for part, own in names.items()
        for name in own
        for flat in factor_names(name)
    }
    rest = {f"{flat}.": f".{flat[1:]}." for flat in factor_names("")}
    return WeightsMapper(orig_to_new_substr={**known, **rest})


def split_mapper(layers: Any, name: str) -> WeightsMapper:
    """Undo vLLM's merging of matrices in those of `layers` (`name.0`, ...) that split them."""
    renamed: dict[str, str | None] = {}
    for index, layer in enumerate(layers):
        mlp, attention = getattr(layer, "mlp", None), getattr(layer, "self_attn", None)
        if hasattr(mlp, "gate"):
            renamed |= {
                f"{name}.{index}.mlp.{matrix}_proj.": f"{name}.{index}.mlp.{matrix}."
                for matrix in ("gate", "up", "down")
            }
        if isinstance(getattr(attention, "qkv_proj", None), SplitQKV):
            path = f"{name}.{index}.self_attn"
            renamed |= {f"{path}.{m}_proj.": f"{path}.qkv_proj.{m}." for m in ("q", "k", "v")}
    return WeightsMapper(orig_to_new_substr=renamed)


def factor_attention(
    attention: Any,
    sizes: Mapping[str, tuple[int, int]],
    ranks: Mapping[str, int],
    *,
    head_dim: int,
    biases: tuple[bool, bool],
    quant_config: Any,
    prefix: str,
    disable_tp: bool = False,
) -> None:
    """Put factored matrices into a freshly built attention with `qkv_proj` and an output matrix.

    Args:
        attention: its `qkv_proj` answers with q, k and v side by side.
        sizes: (out, in) of q, k, v and the output matrix by their names in the file, in that order.
        ranks: of those that are factored.
        head_dim: of its heads.
        biases: whether q, k and v have biases, and whether the output matrix has.
        quant_config: vLLM's.
        prefix: of the attention.
        disable_tp: every tensor-parallel rank computes all of it.
    """
    *inputs, output = sizes
    options = {"quant_config": quant_config, "disable_tp": disable_tp}
    if (joint := ranks.get(QKV)) is not None:
        (queries, width), (keys, _), _ = (sizes[name] for name in inputs)
        path = f"{prefix}.qkv_proj"
        attention.qkv_proj = FactoredLinear(
            ReplicatedLinear(width, joint, bias=False, prefix=f"{path}.in_factor", **options),
            QKVParallelLinear(
                joint, head_dim, queries // head_dim, keys // head_dim, bias=biases[0],
                prefix=f"{path}.out_factor", **options,
            ),
        )  # fmt: skip
    if any(name in ranks for name in inputs):
        attention.qkv_proj = SplitQKV(
            *(
                column_linear(
                    sizes[name], ranks.get(name), bias=biases[0],
                    prefix=f"{prefix}.qkv_proj.{name[0]}", **options,
                )
                for name in inputs
            )
        )  # fmt: skip
    if output in ranks:
        linear = row_linear(
            sizes[output], ranks[output], bias=biases[1], prefix=f"{prefix}.{output}", **options
        )
        setattr(attention, output, linear)


def column_linear(
    size: tuple[int, int],
    rank: int | None,
    *,
    bias: bool,
    quant_config: Any,
    prefix: str,
    disable_tp: bool = False,
) -> nn.Module:
    """A linear of `size` = (out, in) whose output is split among tensor-parallel ranks."""
    rows, columns = size
    options = {"quant_config": quant_config, "disable_tp": disable_tp}
    if rank is None:
        return ColumnParallelLinear(columns, rows, bias=bias, prefix=prefix, **options)
    return FactoredLinear(
        ReplicatedLinear(columns, rank, bias=False, prefix=f"{prefix}.in_factor", **options),
        ColumnParallelLinear(rank, rows, bias=bias, prefix=f"{prefix}.out_factor", **options),
    )


def row_linear(
    size: tuple[int, int],
    rank: int | None,
    *,
    bias: bool,
    quant_config: Any,
    prefix: str,
    disable_tp: bool = False,
) -> nn.Module:
    """A linear of `size` = (out, in) whose input is split among tensor-parallel ranks."""
    rows, columns = size
    options = {"quant_config": quant_config, "disable_tp": disable_tp}
    if rank is None:
        return RowParallelLinear(columns, rows, bias=bias, prefix=prefix, **options)
    return FactoredLinear(
        RowParallelLinear(columns, rank, bias=False, prefix=f"{prefix}.in_factor", **options),
        ReplicatedLinear(rank, rows, bias=bias, prefix=f"{prefix}.out_factor", **options),
    )
