"""From what a measuring process saw to medians. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles

from compressor.checkpoint import Tower
from compressor.latency.probe import LayerTiming, median_of
from compressor.latency.table import Seconds
from service.latency.protocol import Event, Run


def by_phase(events: Sequence[Event], batch: int, steps: int) -> Seconds:
    """A module's time in the prefill, and in a mean decoding step, of one run.

    A step of more tokens than requests holds prompts (of some, where prompts are computed in chunks
    beside the answers of others). Events outside the language model have no tokens and are prefill.
    """
    decode = sum(seconds for tokens, seconds in events if 0 < tokens <= batch)
    whole = sum(seconds for _, seconds in events)
    return Seconds(prefill_s=whole - decode, decode_s=decode / steps if steps else 0.0)


def module_times(runs: Sequence[Run], batch: int, new_tokens: int) -> dict[str, Seconds]:
    """The median time of every module, by its name."""
    steps = new_tokens - 1
    names = sorted(runs[0].events)
    return {
        name: median_of(by_phase(run.events[name], batch, steps) for run in runs) for name in names
    }


def timed_parts(events: Mapping[str, Sequence[Event]]) -> float:
    """Seconds of a run in layers and the projector."""
    return sum(
        seconds for name, found in events.items() if name.endswith("/whole") for _, seconds in found
    )


def rest_of(prefills: Sequence[Run], decodes: Sequence[Run], new_tokens: int) -> Seconds:
    """What single requests took outside layers and projector.

    Args:
        prefills: runs with one new token.
        decodes: runs with `new_tokens`, at least 2.
        new_tokens: of the second.
    """
    prefill = median(run.seconds - timed_parts(run.events) for run in prefills)
    whole = median(run.seconds - timed_parts(run.events) for run in decodes)
    return Seconds(
        prefill_s=max(0.0, prefill), decode_s=max(0.0, (whole - prefill) / (new_tokens - 1))
    )


def spread_of(runs: Sequence[Run]) -> float:
    """The range of the middle half of the runs' seconds, over their median; of two runs or more."""
    low, middle, high = quantiles([run.seconds for run in runs], n=4, method="inclusive")
    return (high - low) / middle


def layer_timings(
    prefill: Mapping[str, Seconds], decode: Mapping[str, Seconds], tower: Tower, depth: int
) -> tuple[LayerTiming, ...]:
    """A tower's layers: prefill times of one workload, decode times of another."""

    def of(index: int, part: str) -> Seconds:
        name = f"{tower}/{index}/{part}"
        return Seconds(prefill_s=prefill[name].prefill_s, decode_s=decode[name].decode_s)

    return tuple(
        LayerTiming(of(index, "attention"), of(index, "ffn"), of(index, "whole"))
        for index in range(depth)
    )
