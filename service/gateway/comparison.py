"""`/comparison`: an original and a compressed model side by side; do two answers agree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from service.errors import InvalidRequestError
from service.gateway.history import KEPT_S
from service.gateway.state import Gateway
from service.registry import Flops, Interval, ModelEntry, Snapshot
from service.routing import agreement
from service.routing.policy import find_model, workers_of
from service.traffic import Reading, Window, last_span, total, window, windows

router = APIRouter(prefix="/comparison", tags=["comparison"])
POINT_S = 30.0
"""What a point of the curves looks back on: shorter ones would jump with every request."""
_INTERVALS = TypeAdapter(dict[str, Interval])


class _View(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class SideView(_View):
    """One of the two models."""

    name: str
    variant: str
    ready_workers: int
    params: int
    flops: Flops
    prompt_flops: float
    """Before the first token: tower, projector and prefill."""
    accuracy: dict[str, Interval]
    window: Window
    answered: int
    """Requests since the gateways began."""


class Ratios(_View):
    """Compressed by original; None where one is not known."""

    params: float | None
    prompt_flops: float | None
    p50: float | None
    p95: float | None
    first_token_p50: float | None
    tokens_per_request_s: float | None


class Curves(_View):
    """One model's last minutes, a value for every time."""

    p50_s: list[float | None]
    p95_s: list[float | None]
    first_token_p50_s: list[float | None]
    requests_per_s: list[float | None]
    tokens_per_s: list[float | None]


class Series(_View):
    """Both models' last minutes."""

    at: list[float]
    """Seconds since the epoch."""
    original: Curves
    compressed: Curves


class ComparisonView(_View):
    """Answer of `GET /comparison`."""

    original: SideView
    compressed: SideView
    ratios: Ratios
    accuracy_difference: dict[str, Interval]
    """Compressed minus original, paired by question, as its job measured it; empty where none did."""
    series: Series


class Answers(BaseModel):
    """Two models' answers to one question."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"a": "Yes.", "b": "yes"}]},
    )

    a: Annotated[str, Field(max_length=100_000)]
    """One model's answer."""
    b: Annotated[str, Field(max_length=100_000)]
    """The other's."""


class AgreementView(_View):
    """How two answers agree, each 0 to 1."""

    value: float
    """What a canary would count."""
    exact: float
    """Equal texts."""
    vqa: float
    """Equal after the VQA evaluation's normalisation."""
    token: float
    """F1 of the words."""


@router.get("")
async def compare(
    request: Request,
    original: Annotated[str, Query(description="Name of the first model.")],
    compressed: Annotated[str, Query(description="Name of the model that is compared with it.")],
    window_s: Annotated[
        float,
        Query(ge=10, le=KEPT_S, description="Seconds that rates and quantiles are taken over."),
    ] = 300.0,
) -> ComparisonView:
    """Cost, accuracy and live speed of two models; over the last `window_s` seconds, with curves.

    The figures are those of all gateway processes on this port.
    """
    gateway: Gateway = request.app.state.gateway
    pair = [find_model(gateway.snapshot, name) for name in (original, compressed)]
    if original == compressed:
        raise InvalidRequestError("The two models are the same; name two.", param="compressed")
    return await asyncio.to_thread(_view, request, gateway.snapshot, pair, window_s)


@router.post("/agreement")
async def agree(body: Answers) -> AgreementView:
    """Whether two answers agree: VQA match for short ones, word F1 for longer ones."""
    found = agreement.compare(body.a, body.b)
    return AgreementView(value=found.judged, exact=found.exact, vqa=found.vqa, token=found.token)


def _view(
    request: Request, snapshot: Snapshot, pair: Sequence[ModelEntry], window_s: float
) -> ComparisonView:
    readings: Sequence[Reading] = request.app.state.history.readings()
    first, second = (_side(snapshot, entry, readings, window_s) for entry in pair)
    measured = pair[1].measured if pair[1].base == pair[0].name else None
    return ComparisonView(
        original=first,
        compressed=second,
        ratios=ratios(first, second),
        accuracy_difference=_INTERVALS.validate_python(
            (measured or {}).get("accuracy_difference", {})
        ),
        series=Series(
            at=[reading.at for reading in readings[1:]],
            original=_curves(readings, first.name),
            compressed=_curves(readings, second.name),
        ),
    )


def _side(
    snapshot: Snapshot, entry: ModelEntry, readings: Sequence[Reading], window_s: float
) -> SideView:
    ready = [w for w in workers_of(snapshot, entry.name) if w.status == "ready"]
    flops = entry.flops
    end = len(readings) - 1
    return SideView(
        name=entry.name,
        variant=entry.variant,
        ready_workers=len(ready),
        params=entry.params,
        flops=flops,
        prompt_flops=flops.vision + flops.projector + flops.prefill,
        accuracy=entry.accuracy,
        window=window(last_span(readings, end, window_s), readings[end], entry.name),
        answered=round(total(readings[end], entry.name).answered),
    )


def ratios(first: SideView, second: SideView) -> Ratios:
    """The second by the first. Pure."""

    def by(a: float | None, b: float | None) -> float | None:
        return b / a if a and b is not None else None

    x, y = first.window, second.window
    return Ratios(
        params=by(first.params, second.params),
        prompt_flops=by(first.prompt_flops, second.prompt_flops),
        p50=by(x.p50_s, y.p50_s),
        p95=by(x.p95_s, y.p95_s),
        first_token_p50=by(x.first_token_p50_s, y.first_token_p50_s),
        tokens_per_request_s=by(x.tokens_per_request_s, y.tokens_per_request_s),
    )


def _curves(readings: Sequence[Reading], model: str) -> Curves:
    found = windows(readings, model, POINT_S)
    values: dict[str, Any] = {
        name: [getattr(each, name) for each in found] for name in Curves.model_fields
    }
    return Curves.model_validate(values)
