"""What baselines look at: moments of every linear's input, first-order effects, attention entropy.

Collected from the whole model in memory, float32, on the calibration data that our own method gets too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressor.checkpoint import Tower
from compressor.families import TowerSpec
from compressor.moments import Moments
from compressor.training import Batch, final_hidden, task_loss


@dataclass(frozen=True)
class LayerSignals:
    """Of one layer; `groups` are KV groups, `neurons` the inputs of the FFN's output matrix."""

    group_taylor: Tensor
    """(groups,): `E|<dL/dA_h, A_h>|` summed over the group's heads (Michel et al. 2019)."""
    neuron_taylor: Tensor
    """(neurons,): the same of neurons."""
    entropy: Tensor
    """(groups,): attention entropy in nats over keys, mean over queries and heads."""


Key = tuple[Tower, int]
"""(tower, layer)."""


def collect_moments(
    model: nn.Module,
    specs: Sequence[TowerSpec],
    batches: Sequence[Mapping[str, Tensor]],
    weights: Sequence[Tensor] | None = None,
) -> dict[str, Moments]:
    """`E[x x^T]` with the mean, of the input of every linear of the towers, by its module path.

    Args:
        model: the original.
        specs: its towers.
        batches: of calibration inputs.
        weights: for each batch, (B * T,) what a token of the language model counts; by default alike.
    """
    found: dict[str, Moments] = {}
    masks: list[Tensor] = []
    handles = []
    for spec in specs:
        for index, block in enumerate(spec.blocks(model)):
            for path in linear_paths(spec):
                name = f"{spec.block_path(index)}.{path}"
                found[name] = Moments(constant=True)
                visual = spec.name != "language"

                def add(
                    _: nn.Module, args: tuple[Tensor, ...], name: str = name, visual: bool = visual
                ) -> None:
                    x = args[0].reshape(-1, args[0].shape[-1])
                    used = torch.ones(len(x)) if visual else masks[-1]
                    found[name].add(x, used)

                handles.append(block.get_submodule(path).register_forward_pre_hook(add))
    with torch.no_grad():
        for number, batch in enumerate(batches):
            alike = batch["attention_mask"].flatten().float()
            masks.append(alike if weights is None else weights[number])
            decoder: Any = model.get_submodule("model")
            decoder(**batch, use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def linear_paths(spec: TowerSpec) -> tuple[str, ...]:
    """Every linear of a block: attention's four and the FFN's."""
    return (*spec.projections, *spec.matrices)


def collect_signals(
    model: nn.Module, specs: Sequence[TowerSpec], batches: Iterable[Batch]
) -> dict[Key, LayerSignals]:
    """First-order effects and entropies of every layer with attention, means over all questions.

    The model must have been given the `eager` attention, which returns its weights.
    """
    model.requires_grad_(False)
    towers = [spec for spec in specs if spec.attention is not None]
    sums: dict[tuple[Key, str], Tensor] = {}
    count = 0
    for batch in batches:
        count += len(batch.used)
        with _gates(model, towers, len(batch.used)) as gates, _entropies(model, towers) as seen:
            loss = task_loss(model, final_hidden(model, batch), batch) * len(batch.used)
            loss.backward()
        for place, gate in gates.items():
            assert gate.grad is not None
            sums[place] = sums.get(place, 0) + gate.grad[:, 0].abs().sum(0)
        for key, entropy in seen.items():
            place = (key, "entropy")
            sums[place] = sums.get(place, 0) + len(batch.used) * _mean_over_queries(
                entropy, key, batch
            )
    found = {}
    for spec in towers:
        for index in range(spec.used_layers):
            at = (spec.name, index)
            found[at] = LayerSignals(
                group_taylor=sums[at, "heads"].reshape(spec.kv_heads, spec.group).sum(1) / count,
                neuron_taylor=sums[at, "neurons"] / count,
                entropy=sums[at, "entropy"].reshape(spec.kv_heads, spec.group).mean(1) / count,
            )
    return found


@contextmanager
def _gates(
    model: nn.Module, towers: Sequence[TowerSpec], rows: int
) -> Iterator[dict[tuple[Key, str], Tensor]]:
    """Ones that multiply the inputs of output matrices: their gradient is `<dL/dA, A>` by example."""
    gates: dict[tuple[Key, str], Tensor] = {}
    handles = []
    for spec in towers:
        assert spec.attention is not None
        for index, block in enumerate(spec.blocks(model)):
            key = (spec.name, index)
            gates[key, "heads"] = torch.ones(rows, 1, spec.heads, requires_grad=True)
            gates[key, "neurons"] = torch.ones(rows, 1, spec.ffn_width, requires_grad=True)
            spread = gates[key, "heads"].repeat_interleave(spec.head_dim, dim=2)
            for path, gate in (
                (spec.attention.o, spread),
                (spec.ffn_output, gates[key, "neurons"]),
            ):

                def scale(
                    _: nn.Module, args: tuple[Tensor, ...], gate: Tensor = gate
                ) -> tuple[Tensor, ...]:
                    return (args[0] * gate, *args[1:])

                handles.append(block.get_submodule(path).register_forward_pre_hook(scale))
    yield gates
    for handle in handles:
        handle.remove()


@contextmanager
def _entropies(model: nn.Module, towers: Sequence[TowerSpec]) -> Iterator[dict[Key, Tensor]]:
    """(B, heads, queries) attention entropy of every layer, filled as the model runs."""
    seen: dict[Key, Tensor] = {}
    handles = []
    for spec in towers:
        for index, block in enumerate(spec.blocks(model)):

            def look(_: nn.Module, args: Any, output: Any, key: Key = (spec.name, index)) -> None:
                weights = output[1].detach()
                seen[key] = -(weights * weights.clamp_min(1e-12).log()).sum(-1)

            handles.append(block.get_submodule("self_attn").register_forward_hook(look))
    yield seen
    for handle in handles:
        handle.remove()


def _mean_over_queries(entropy: Tensor, key: Key, batch: Batch) -> Tensor:
    """(heads,) of (B, heads, queries), padding left out."""
    if key[0] != "language":
        return entropy.mean((0, 2))
    used = batch.used[:, None].float()
    return (entropy * used).sum((0, 2)) / used.sum()
