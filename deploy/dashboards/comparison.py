"""*Comparison*: may the compressed model be trusted? The first row answers; the rest says why."""

from __future__ import annotations

from collections.abc import Callable

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.dashboards import queries as q
from deploy.dashboards.headline import answer
from deploy.dashboards.layout import choice, empty, row
from deploy.dashboards.panels import SIDES, Query, band, grid, lines

Panels = list[Builder[models.Panel]]
_IN_PODS = '{container="vllm"}'
"""The engines' containers in deploy/kubernetes/, where no manager measures."""


def comparison() -> builders.Dashboard:
    """The dashboard."""
    made = empty(
        "infoprune-comparison",
        "InfoPrune: comparison",
        "A compressed model against its original. The first row is the answer, over the time shown.",
        [
            choice(
                "original",
                "Original",
                "The model that was compressed",
                'label_values(infoprune_model_info{variant="original"}, model)',
            ),
            choice(
                "compressed",
                "Compressed",
                "A model that was compressed from it",
                'label_values(infoprune_model_info{base="$original"}, model)',
            ),
            choice(
                "alias",
                "Alias",
                "Where the compressed model is the candidate of a shadow or canary",
                'label_values(infoprune_canary_criterion{candidate="$compressed"}, alias)',
                several=True,
            ),
        ],
    )
    made = row(made, "$compressed against $original: the answer", answer())
    made = row(made, "Are its answers as good?", _quality())
    made = row(made, "Is it faster?", _speed())
    return row(made, "What does it use?", _use())


def _quality() -> Panels:
    return [
        _accuracy_by_dataset(),
        _accuracy_over_time(),
        _agreement_over_time(),
        lines(
            "Agreement lately, by measure",
            "exact: the same text; vqa: the same after normalisation; token: F1 of the words.",
            [Query(_similarity(), "{{measure}}")],
            unit="percentunit",
            most=1,
        ),
        lines(
            "Errors",
            f"Share of the requests. {q.FAILED_MEANS}",
            _both(q.failed_share),
            unit="percentunit",
            look=SIDES,
            limit=0.05,
        ),
    ]


def _accuracy_by_dataset() -> Builder[models.Panel]:
    columns = {}
    for side, of in (("original", q.ORIGINAL), ("compressed", q.COMPRESSED)):
        columns[side] = q.accuracy(of)
        columns[f"{side}, low"] = q.accuracy(of, "low")
        columns[f"{side}, high"] = q.accuracy(of, "high")
        columns[f"{side}, questions"] = q.store("infoprune_accuracy_samples", of, by="dataset")
    return grid(
        "Accuracy by dataset",
        "As last measured, with 95 % intervals and how many questions were asked.",
        columns,
        key="dataset",
        unit="none",
    )


def _accuracy_over_time() -> Builder[models.Panel]:
    queries = [Query(f"avg({q.accuracy(q.ORIGINAL)})", "original")]
    for bound, name in (("value", ""), ("low", ", low"), ("high", ", high")):
        queries.append(Query(f"avg({q.accuracy(q.COMPRESSED, bound)})", f"compressed{name}"))
    panel = lines(
        "Accuracy, mean over datasets",
        "It changes when an evaluation ends. The band is the mean of the 95 % intervals' bounds, which "
        "is wider than the interval of the mean.",
        queries,
        unit="percentunit",
        look=SIDES,
        span=12,
        most=1,
    )
    return band(panel, "compressed")


def _agreement_over_time() -> Builder[models.Panel]:
    def lowest(bound: str) -> str:
        bounds = q.store(q.AGREEMENT, f'{q.PAIR},bound="{bound}"', by="alias")
        return f"min({bounds})"

    panel = lines(
        "Agreement",
        "How often both models said the same to the same greedy request since the shadow or canary "
        "began, with its confidence sequence; the lowest of the aliases chosen. The line is a canary's "
        "default bound.",
        [
            Query(lowest("value"), "compressed"),
            Query(lowest("low"), "compressed, low"),
            Query(lowest("high"), "compressed, high"),
        ],
        unit="percentunit",
        look=SIDES,
        most=1,
        limit=0.9,
    )
    return band(panel, "compressed")


def _similarity() -> str:
    pairs = q.rate("infoprune_compared_pairs_total", q.PAIR)
    similar = q.rate("infoprune_compared_similarity_total", q.PAIR, by="measure")
    return f"{similar} / on () group_left () {pairs}"


def _speed() -> Panels:
    def latency(share: float) -> Callable[[str], str]:
        return lambda of: q.quantile(share, q.LATENCY, of)

    def of_streams(histogram: str, share: float) -> Callable[[str], str]:
        return lambda of: q.quantile(share, histogram, of)

    latencies: Panels = [
        _seconds(f"Latency, p{100 * share:g}", "From request to the last byte.", latency(share))
        for share in (0.5, 0.95, 0.99)
    ]
    return [
        *latencies,
        _seconds("First token, p50", "Streams only.", of_streams(q.FIRST_TOKEN, 0.5)),
        _seconds("First token, p95", "Streams only.", of_streams(q.FIRST_TOKEN, 0.95)),
        _seconds(
            "Time per further token, p50",
            "Mean time between the tokens of a streamed answer.",
            of_streams(q.PER_TOKEN, 0.5),
        ),
        lines(
            "Answer tokens/s",
            "Of all requests together.",
            _both(lambda of: q.rate(q.TOKENS, f'{of},kind="completion"')),
            unit="short",
            look=SIDES,
        ),
        lines(
            "Requests/s",
            "Answered, refused and failed.",
            _both(lambda of: q.rate(q.REQUESTS, of)),
            unit="reqps",
            look=SIDES,
        ),
        lines(
            "Requests in flight",
            "With a model, and without a complete answer.",
            _both(lambda of: f"sum(infoprune_in_flight_requests{{{of}}})"),
            unit="short",
            look=SIDES,
        ),
    ]


def _seconds(title: str, description: str, form: Callable[[str], str]) -> timeseries.Panel:
    return lines(
        title,
        f"{description} As fine as the histogram's buckets.",
        _both(form),
        unit="s",
        look=SIDES,
    )


def _use() -> Panels:
    return [
        lines(
            "KV cache in use",
            "Share of vLLM's KV cache, the fullest worker. Near 1, requests are preempted.",
            _engines("max(vllm:kv_cache_usage_perc{{{of}}})"),
            unit="percentunit",
            look=SIDES,
            most=1,
            limit=0.95,
        ),
        lines(
            "In the engine",
            "Requests that vLLM computes, and those in its own queue.",
            [
                *_engines("sum(vllm:num_requests_running{{{of}}})", ", running"),
                *_engines("sum(vllm:num_requests_waiting{{{of}}})", ", waiting"),
            ],
            unit="short",
            look=SIDES,
        ),
        lines(
            "Tokens/s in the engine",
            "As vLLM counts them: prompt, image included, and answer.",
            [
                *_engines(
                    "sum(rate(vllm:prompt_tokens_total{{{of}}}[$__rate_interval]))", ", prompt"
                ),
                *_engines(
                    "sum(rate(vllm:generation_tokens_total{{{of}}}[$__rate_interval]))", ", answer"
                ),
            ],
            unit="short",
            look=SIDES,
        ),
        lines(
            "Cores and graphics cards in use",
            "Of a model's local workers, or of its pods where there are none, with the engine. 1: a "
            "core or a worker's cards, always busy.",
            _both(_busy, ", {{on}}"),
            unit="short",
            look=SIDES,
        ),
        lines(
            "Memory",
            "Of a model's local workers, or of its pods where there are none, engine included: on the "
            "host, and on graphics cards.",
            _both(_memory, ", {{on}}"),
            unit="bytes",
            look=SIDES,
        ),
        lines(
            "Parameters",
            "Of the two models.",
            _both(lambda of: q.store("infoprune_model_parameters", of)),
            unit="short",
            look=SIDES,
        ),
    ]


def _busy(of: str) -> str:
    local = f"sum(max by (worker) (rate(infoprune_worker_cpu_seconds_total{{{of}}}[{q.RATE}])))"
    pods = q.in_pods(f"rate(container_cpu_usage_seconds_total{_IN_PODS}[{q.RATE}])", of)
    cards = f"sum({q.store('infoprune_worker_gpu_utilization_ratio', of, by='worker')})"
    return q.either(cores=f"({local} or {pods})", cards=cards, label="on")


def _memory(of: str) -> str:
    local = f"sum({q.store('infoprune_worker_resident_memory_bytes', of, by='worker')})"
    pods = q.in_pods(f"container_memory_working_set_bytes{_IN_PODS}", of)
    cards = f"sum({q.store('infoprune_worker_gpu_memory_bytes', of, by='worker')})"
    return q.either(host=f"({local} or {pods})", cards=cards, label="on")


def _both(form: Callable[[str], str], suffix: str = "") -> list[Query]:
    """A query for both models; `suffix` may name labels that tell one model's curves apart."""
    return [
        Query(form(q.ORIGINAL), f"original{suffix}"),
        Query(form(q.COMPRESSED), f"compressed{suffix}"),
    ]


def _engines(pattern: str, suffix: str = "") -> list[Query]:
    """A query over vLLM's own metrics, for both models."""
    return [
        Query(pattern.format(of=f'model_name="${side}"'), f"{side}{suffix}")
        for side in ("original", "compressed")
    ]
