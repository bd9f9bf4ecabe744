"""PromQL: the few forms that the panels' queries have. Pure text."""

from __future__ import annotations

from collections.abc import Callable

from service import failures

RATE = "$__rate_interval"
"""Grafana's window for a graph's points."""
RANGE = "$__range"
"""All of the time that the dashboard shows."""

ORIGINAL = 'model="$original"'
COMPRESSED = 'model="$compressed"'
PAIR = 'alias=~"$alias",candidate="$compressed"'
CHOSEN = 'model=~"$model"'

LATENCY = "infoprune_request_latency_seconds"
FIRST_TOKEN = "infoprune_time_to_first_token_seconds"  # noqa: S105 - a token of text
PER_TOKEN = "infoprune_request_time_per_output_token_seconds"  # noqa: S105 - a token of text
QUEUE_TIME = "infoprune_request_queue_time_seconds"
REQUESTS = "infoprune_requests_total"
TOKENS = "infoprune_tokens_total"
ACCURACY = "infoprune_accuracy_ratio"
AGREEMENT = "infoprune_compared_agreement_ratio"
FAILED = f'status=~"{failures.FAILED}"'
COUNTED = f'status=~"{failures.COUNTED}"'
FAILED_MEANS = (
    "Failed: 5xx, or 429, which an engine without room gives. Clients' own mistakes (other 4xx) and "
    "clients that left (499) do not count."
)


def quantile(q: float, histogram: str, where: str, window: str = RATE, *, by: str = "") -> str:
    """A quantile over all processes; `by` names labels to keep."""
    labels = f"{by}, le" if by else "le"
    counted = f"rate({histogram}_bucket{{{where}}}[{window}])"
    return f"histogram_quantile({q:g}, sum by ({labels}) ({counted}))"


def rate(counter: str, where: str = "", window: str = RATE, *, by: str = "") -> str:
    """Events a second over all processes; `by` names labels to keep."""
    kept = f"sum by ({by}) " if by else "sum"
    chosen = f"{counter}{{{where}}}" if where else counter
    return f"{kept}(rate({chosen}[{window}]))"


def failed_share(where: str, window: str = RATE, *, by: str = "") -> str:
    """Share of requests that failed, as `service/failures.py` has it; 0 where there was none."""
    failed = rate(REQUESTS, f"{where},{FAILED}", window, by=by)
    every = rate(REQUESTS, f"{where},{COUNTED}", window, by=by)
    # Without a failure yet there is no such series: 0 times the requests stands for it.
    return f"({failed} or 0 * {every}) / {every}"


def store(metric: str, where: str = "", *, by: str = "") -> str:
    """A gauge that mirrors the store; several gateways say the same, and it counts once."""
    kept = f"max by ({by}) " if by else "max"
    return f"{kept}({metric}{{{where}}})" if where else f"{kept}({metric})"


def accuracy(where: str, bound: str = "value") -> str:
    """Accuracy by dataset, as last measured; `bound` is value, low or high."""
    return store(ACCURACY, f'{where},bound="{bound}"', by="dataset")


def either(label: str, **forms: str) -> str:
    """All of these queries that return something, told apart by `label`: the forms' names.

    So that a panel on a machine without graphics cards shows what there is, in one query.
    """
    named = (f'label_replace({form}, "{label}", "{name}", "", "")' for name, form in forms.items())
    return " or ".join(named)


def in_pods(figure: str, where: str) -> str:
    """The sum of a figure of Kubernetes' cAdvisor over the pods whose engine serves a model.

    The kubelet does not know what a pod serves; vLLM's own metrics, of the same pod, do.

    Args:
        figure: by container, such as `container_memory_working_set_bytes{container="vllm"}`.
        where: the model, `model="NAME"`.
    """
    serving = f"vllm:num_requests_running{{{where.replace('model=', 'model_name=')}}}"
    return f"sum(max by (namespace, pod) ({figure}) and on (namespace, pod) {serving})"


def compressed_over_original(form: Callable[[str], str]) -> str:
    """The ratio of a figure; `form` makes the query of one model from its label matcher."""
    return f"{form(COMPRESSED)} / {form(ORIGINAL)}"
