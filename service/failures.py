"""Which requests a model, or the service around it, failed: the one definition. Pure.

The web page's comparison, `infoprune top`, the dashboards and the alert on errors all count by it, over
`infoprune_requests_total`:

- failed: 5xx and 429. The limits of API keys are not among the latter: those requests are refused
  before a model is known and have no such series. 429 is an engine's that has no room, as 503 is.
- answered: 2xx.
- neither: what a client did wrong (any other 4xx) or did not wait for (499). Such a request says
  nothing about a model, so it is not in the denominator of the share either.

A shadow or canary counts otherwise, on purpose (`service/gateway/shadow.py`, docs/rollout.md): it
compares two models on like requests, where a candidate that refuses with 4xx what its reference
accepts is worse, and one that merely had no room (429, 503) is not.
"""

from __future__ import annotations

import re

ANSWERED = "2.."
FAILED = "5..|429"
COUNTED = f"{ANSWERED}|{FAILED}"
"""Regular expressions over whole statuses, as PromQL's `=~` matches them."""


def is_answered(status: str) -> bool:
    """Whether the client has its answer."""
    return re.fullmatch(ANSWERED, status) is not None


def is_failed(status: str) -> bool:
    """Whether the model, or the service, failed the client."""
    return re.fullmatch(FAILED, status) is not None


def failed_share(failed: float, answered: float) -> float | None:
    """Failed requests over those that count; None where there are none."""
    counted = failed + answered
    return failed / counted if counted else None
