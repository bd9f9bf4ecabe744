"""The first row of *Comparison*: the answer, over the time shown."""

from __future__ import annotations

from collections.abc import Callable

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.dashboards import queries as q
from deploy.dashboards.panels import GREEN, GREY, ORANGE, RED, SKY, Steps, headline, state

_LESS: Steps = [(None, GREEN), (1.0, SKY), (1.1, ORANGE), (1.2, RED)]
_MORE: Steps = [(None, RED), (0.8, ORANGE), (0.95, SKY), (1.0, GREEN)]


def answer() -> list[Builder[models.Panel]]:
    """The row's panels."""
    return [
        _verdict(),
        _accuracy(),
        _agreement(),
        _ratio(
            "Latency, p50",
            "Less than 1 is better: the compressed model answers sooner.",
            lambda of: q.quantile(0.5, q.LATENCY, of, q.RANGE),
            _LESS,
        ),
        _ratio(
            "Latency, p95",
            "Less than 1 is better. The slow answers are what clients complain of.",
            lambda of: q.quantile(0.95, q.LATENCY, of, q.RANGE),
            _LESS,
        ),
        _ratio(
            "First token, p50",
            "Less than 1 is better. Streamed answers only.",
            lambda of: q.quantile(0.5, q.FIRST_TOKEN, of, q.RANGE),
            _LESS,
        ),
        _ratio(
            "Tokens/s of an answer",
            "More than 1 is better. Answer tokens for every second that a request was under way, so it "
            "does not depend on how the traffic is split.",
            _token_speed,
            _MORE,
        ),
        _ratio(
            "Requests/s",
            "How the traffic is split. It compares throughput only while each model gets as much as it "
            "can answer, so it has no colour.",
            lambda of: q.rate(q.REQUESTS, of, q.RANGE),
            [(None, GREY)],
        ),
    ]


def _verdict() -> Builder[models.Panel]:
    def some(verdict: str) -> str:
        return f'max(infoprune_canary_criterion{{{q.PAIR},verdict="{verdict}"}})'

    return state(
        "Verdict",
        "Of the shadow's or canary's tests of agreement, errors and latency, which hold at every look "
        "(docs/rollout.md). Regressed: one of the bounds is broken. Not shown yet: it takes more "
        "requests.",
        f"clamp_max(2 * {some('regressed')} + {some('undecided')}, 2)",
        {0: ("Holds", GREEN), 1: ("Not shown yet", SKY), 2: ("Regressed", RED)},
    )


def _accuracy() -> Builder[models.Panel]:
    return headline(
        "Accuracy",
        "Compressed ÷ original as last measured, mean over the datasets that both were asked. The "
        "intervals are below: where they overlap, the difference may be chance.",
        f"avg({q.accuracy(q.COMPRESSED)} / {q.accuracy(q.ORIGINAL)})",
        unit="none",
        decimals=3,
        steps=[(None, RED), (0.97, ORANGE), (0.99, GREEN)],
    )


def _agreement() -> Builder[models.Panel]:
    value = q.store(q.AGREEMENT, f'{q.PAIR},bound="value"', by="alias")
    return headline(
        "Agreement",
        "How often both models said the same to the same greedy request; the lowest of the aliases "
        "chosen. The interval is below.",
        f"min({value})",
        unit="percentunit",
        decimals=1,
        steps=[(None, RED), (0.9, ORANGE), (0.95, GREEN)],
    )


def _ratio(
    title: str, meaning: str, form: Callable[[str], str], steps: Steps
) -> Builder[models.Panel]:
    return headline(
        title,
        f"Compressed ÷ original, over the time shown. {meaning}",
        q.compressed_over_original(form),
        unit="none",
        decimals=2,
        steps=steps,
    )


def _token_speed(of: str) -> str:
    tokens = q.rate(q.TOKENS, f'{of},kind="completion"', q.RANGE)
    return f"({tokens} / {q.rate(f'{q.LATENCY}_sum', of, q.RANGE)})"
