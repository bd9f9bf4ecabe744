"""The measured time of every shape that a layer can have, and the `Cost` made of it. Pure.

A table holds seconds of one *reference request*: the prefill of one image with its prompt, and one
decoded token. A request of `new_tokens` tokens takes the prefill, which gives the first of them, and
`new_tokens - 1` decoded ones. Its time is taken to be a sum over layers' attentions and FFNs and a
rest that no shape changes; that holds where modules run one after the other, as they do on a CPU and
on a GPU without graphs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compressor.checkpoint import Tower
from compressor.errors import CheckpointError

if TYPE_CHECKING:  # torch takes seconds to import, and the command line needs the table alone
    from compressor.costs import AttentionRanks, Ranks
    from compressor.families.base import TowerSpec

TABLE_VERSION = 3
_QUIET = 0.2


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Seconds(_Frozen):
    """Time of something, by phase."""

    prefill_s: float = 0.0
    """In the prefill of a request; the vision tower and the projector run in it alone."""
    decode_s: float = 0.0
    """In one decoded token."""

    def of_request(self, new_tokens: int) -> float:
        """Seconds of a request that ends after `new_tokens` tokens."""
        return self.prefill_s + (new_tokens - 1) * self.decode_s

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(
            prefill_s=self.prefill_s - other.prefill_s, decode_s=self.decode_s - other.decode_s
        )


class Curve(_Frozen):
    """Time by size: linear between the measured sizes, never falling with the size."""

    sizes: tuple[int, ...] = Field(min_length=1)
    """Ascending."""
    seconds: tuple[Seconds, ...]

    @model_validator(mode="after")
    def _ordered(self) -> Curve:
        if len(self.sizes) != len(self.seconds):
            raise ValueError("a curve has one time for each size")
        if any(a >= b for a, b in pairwise(self.sizes)):
            raise ValueError("a curve's sizes ascend")
        for a, b in pairwise(self.seconds):
            if a.prefill_s > b.prefill_s or a.decode_s > b.decode_s:
                raise ValueError("a curve's times never fall")
        return self

    @classmethod
    def fitted(cls, measured: Iterable[tuple[int, Seconds]]) -> Curve:
        """The curve nearest to measured times (least squares) that never falls.

        Several times of one size are averaged. Noise can make a smaller layer look slower; left in,
        the allocation would take it for an offer.
        """
        by_size: dict[int, list[Seconds]] = {}
        for size, seconds in measured:
            by_size.setdefault(size, []).append(seconds)
        sizes = sorted(by_size)
        weights = [len(by_size[size]) for size in sizes]
        prefill = [_mean([s.prefill_s for s in by_size[size]]) for size in sizes]
        decode = [_mean([s.decode_s for s in by_size[size]]) for size in sizes]
        return cls(
            sizes=tuple(sizes),
            seconds=tuple(
                Seconds(prefill_s=p, decode_s=d)
                for p, d in zip(isotonic(prefill, weights), isotonic(decode, weights), strict=True)
            ),
        )

    def at(self, size: float, new_tokens: int) -> float:
        """Seconds of a request at a size.

        Below the smallest measured size its time holds (a call costs its overhead however little it
        computes); beyond the largest the last slope goes on.
        """
        times = [seconds.of_request(new_tokens) for seconds in self.seconds]
        if size <= self.sizes[0] or len(times) == 1:
            return times[0]
        right = min(bisect_right(self.sizes, size), len(times) - 1)
        a, b = self.sizes[right - 1], self.sizes[right]
        share = (size - a) / (b - a)
        return times[right - 1] + share * (times[right] - times[right - 1])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The never-falling sequence nearest to `values` in weighted least squares.

    Pool adjacent violators (Barlow et al. 1972): neighbours that fall are replaced by their mean.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values, weights, strict=True):
        mean, mass, length = float(value), float(weight), 1
        while blocks and blocks[-1][0] > mean:
            before, heavier, longer = blocks.pop()
            mean = (before * heavier + mean * mass) / (heavier + mass)
            mass, length = heavier + mass, longer + length
        blocks.append((mean, mass, length))
    found = [mean for mean, _, length in blocks for _ in range(length)]
    # Means of equal values may differ in the last bit.
    return [max(found[: i + 1]) for i in range(len(found))]


class TowerLatency(_Frozen):
    """One layer of a tower."""

    attention: Curve | None
    """By KV groups; None where the tower has no attention."""
    windowed: Curve | None = None
    """The same in layers with a window."""
    attention_rank: dict[str, Curve] = {}
    """Attention with all groups by the rank of this one matrix, the others dense, no window."""
    ffn_width: Curve
    """The FFN by its inner width, no matrix factored."""
    ffn_rank: dict[str, Curve]
    """The whole FFN at full width by the rank of this one matrix, the others dense."""
    rest: Seconds
    """Norms and residual sums of a layer."""


class ReferenceRequest(_Frozen):
    """The request that a table is about."""

    text_tokens: int
    patches: int
    """Image patches; 0 where all images have one size."""
    visual_tokens: int


class EngineIdentity(_Frozen):
    """What a time depends on besides the model: another one asks for another table."""

    engine: str
    """Name and version."""
    device: str
    """Model of the CPU or GPU."""
    dtype: str
    threads: int
    """Of the worker on a CPU; 0 on a GPU."""


class LatencyTable(_Frozen):
    """What was measured of one architecture by one engine on one machine."""

    version: int = TABLE_VERSION
    architecture: str
    request: ReferenceRequest
    identity: EngineIdentity
    towers: dict[Tower, TowerLatency]
    rest: Seconds
    """Of a request, outside all layers: engine, processor, patch embedding, logits, sampling."""
    runs: int
    """Requests that the medians are of."""
    spread: float = Field(ge=0)
    """Of whole requests: the middle half's range over the median."""

    @property
    def told(self) -> str:
        """What measured it, in words."""
        by, asked = self.identity, self.request
        threads = f", {by.threads} threads" if by.threads else ""
        return (
            f"times of every layer shape in {by.engine} in {by.dtype} on {by.device}{threads}, of a "
            f"request of {asked.visual_tokens} visual and {asked.text_tokens} text tokens"
        )

    @property
    def doubt(self) -> str | None:
        """One sentence where the machine was not quiet while it was measured."""
        if self.spread <= _QUIET:
            return None
        return (
            f"The measured times spread by {self.spread:.0%}: something else was computing; measure "
            "again with infoprune latency --again while the machine is quiet."
        )


@dataclass(frozen=True)
class LatencyCost:
    """Seconds of the reference request with `new_tokens` answer tokens."""

    table: LatencyTable
    specs: tuple[TowerSpec, ...]
    new_tokens: int

    def __post_init__(self) -> None:
        for spec in self.specs:
            known = self.table.towers.get(spec.name)
            names = set(spec.dense_layer().ranks)
            projections = set(spec.factored)
            if (
                known is None
                or set(known.ffn_rank) != names
                or set(known.attention_rank) != projections
            ):
                raise CheckpointError(
                    f"The latency table of {self.table.architecture} does not cover the {spec.name} "
                    "tower; measure it again with infoprune latency --again."
                )

    def attention(
        self, spec: TowerSpec, layer: int, heads: int, kv_heads: int, ranks: AttentionRanks
    ) -> float:
        """Seconds of one layer's attention.

        What factoring a matrix changes was measured with the others dense and all groups; changes add
        up, and shrink with the groups.
        """
        tower = self.table.towers[spec.name]
        window = spec.windows[layer] if spec.windows else None
        curve = tower.attention if window is None else tower.windowed
        assert curve is not None
        total = curve.at(kv_heads, self.new_tokens)
        if ranks and tower.attention is not None:
            whole = tower.attention.at(spec.kv_heads, self.new_tokens)
            for matrix, rank in ranks.items():
                changed = tower.attention_rank[matrix].at(rank, self.new_tokens) - whole
                total += changed * kv_heads / spec.kv_heads
        return max(total, 0.0)

    def ffn(self, spec: TowerSpec, layer: int, ranks: Ranks, ffn_width: int | None) -> float:
        """Seconds of one layer's FFN.

        What factoring a matrix changes was measured with the others dense, at full width; changes add
        up, and shrink with the width.
        """
        tower = self.table.towers[spec.name]
        width = spec.ffn_width if ffn_width is None else ffn_width
        whole = tower.ffn_width.at(spec.ffn_width, self.new_tokens)
        total = tower.ffn_width.at(width, self.new_tokens)
        for matrix, rank in ranks.items():
            if rank is not None:
                changed = tower.ffn_rank[matrix].at(rank, self.new_tokens) - whole
                total += changed * width / spec.ffn_width
        return max(total, 0.0)

    @property
    def untouched(self) -> float:
        """Everything outside attentions and FFNs."""
        layers = sum(
            spec.used_layers * self.table.towers[spec.name].rest.of_request(self.new_tokens)
            for spec in self.specs
        )
        return layers + self.table.rest.of_request(self.new_tokens)
