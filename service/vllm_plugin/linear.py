"""Dense or factored linears, made of vLLM's parallel ones so that tensor parallelism stays right.

With tensor parallelism every rank has the whole of the small factor's side: a column-parallel linear
is split at the output factor, a row-parallel one at the input factor, where the sum over ranks then
is of `rank` numbers instead of `out`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)
from vllm.model_executor.models.utils import WeightsMapper

from compressor.checkpoint import factor_names


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


def factor_mapper() -> WeightsMapper:
    """From the file's flat names to the modules': `fc1_in_factor.` -> `fc1.in_factor.`."""
    return WeightsMapper(
        orig_to_new_substr={f"{flat}.": f".{flat[1:]}." for flat in factor_names("")}
    )


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
