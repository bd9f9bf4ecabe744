"""*Serving*: does the gateway answer, and where does it hurt?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.dashboards import queries as q
from deploy.dashboards.layout import choice, empty, row
from deploy.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    STACKED,
    STATES,
    STATUSES,
    Look,
    Query,
    headline,
    lines,
    state,
)

Panels = list[Builder[models.Panel]]
_PER_PROCESS, _PROCESS = "sum by (instance, replica) ", "{{instance}} {{replica}}"
_LOAD = Look({"/ in flight$/": BLUE, "/ waiting$/": ORANGE})
_STANDING = Look({"/ ready$/": GREEN, "/ trusted$/": BLUE, "/ open breaker$/": RED})


def serving() -> builders.Dashboard:
    """The dashboard."""
    made = empty(
        "infoprune-serving",
        "InfoPrune: serving",
        "Requests, errors, queues and workers.",
        [
            choice(
                "model",
                "Model",
                "Originals and compressed models",
                "label_values(infoprune_ready_workers, model)",
                several=True,
            )
        ],
    )
    made = row(made, "Now", _now())
    made = row(made, "Requests", _requests())
    made = row(made, "Queues", _queues())
    return row(made, "Workers and gateways", [*_workers(), *_failures(), _processes()])


def _now() -> Panels:
    waiting = f"sum(infoprune_waiting_requests{{{q.CHOSEN}}})"
    least = q.store("infoprune_ready_workers", q.CHOSEN, by="model")
    return [
        state(
            "Store",
            "Whether every gateway reaches Redis. Without it models are served on; jobs, keys and "
            "roll-outs stand still.",
            "min(infoprune_store_reachable)",
            {1: ("Reachable", GREEN), 0: ("Away", RED)},
            span=4,
        ),
        headline(
            "Ready workers",
            "Of the model that has the fewest.",
            f"min({least})",
            unit="short",
            decimals=0,
            steps=[(None, RED), (1, GREEN)],
            span=4,
        ),
        headline(
            "Requests/s",
            "Over the time shown.",
            q.rate(q.REQUESTS, q.CHOSEN, q.RANGE),
            unit="reqps",
            decimals=1,
            steps=[(None, GREY)],
            span=4,
        ),
        headline(
            "Errors",
            f"Share of the requests over the time shown. {q.FAILED_MEANS}",
            q.failed_share(q.CHOSEN, q.RANGE),
            unit="percentunit",
            decimals=2,
            steps=[(None, GREEN), (0.01, ORANGE), (0.05, RED)],
            span=4,
        ),
        headline(
            "In flight",
            "Requests without a complete answer.",
            f"sum(infoprune_in_flight_requests{{{q.CHOSEN}}})",
            unit="short",
            decimals=0,
            steps=[(None, GREY)],
            span=4,
        ),
        headline(
            "Waiting",
            "Requests in the gateway's queue: all workers have enough to do.",
            waiting,
            unit="short",
            decimals=0,
            steps=[(None, GREEN), (1, ORANGE), (100, RED)],
            span=4,
        ),
    ]


def _requests() -> Panels:
    return [
        lines(
            "Requests/s by status",
            "The HTTP status of the answer; 499 is a client that left.",
            [Query(q.rate(q.REQUESTS, q.CHOSEN, by="status"), "{{status}}")],
            unit="reqps",
            look=STATUSES,
        ),
        lines(
            "Errors/s by reason",
            "The error's code; `engine` is a status that the engine gave.",
            [Query(q.rate("infoprune_errors_total", q.CHOSEN, by="reason"), "{{reason}}")],
            unit="reqps",
            look=STACKED,
        ),
        lines(
            "Refused/s before a model was known",
            "For their key or its limits, by reason. Of all models.",
            [Query(q.rate("infoprune_refused_requests_total", by="reason"), "{{reason}}")],
            unit="reqps",
            look=STACKED,
        ),
        lines(
            "Latency, p95",
            "From request to the last byte, by model.",
            [Query(q.quantile(0.95, q.LATENCY, q.CHOSEN, by="model"), "{{model}}")],
            unit="s",
        ),
        lines(
            "First token, p95",
            "Of streamed answers, by model.",
            [Query(q.quantile(0.95, q.FIRST_TOKEN, q.CHOSEN, by="model"), "{{model}}")],
            unit="s",
        ),
        lines(
            "Tokens/s",
            "As the engines count them.",
            [Query(q.rate(q.TOKENS, q.CHOSEN, by="model, kind"), "{{model}} {{kind}}")],
            unit="short",
        ),
    ]


def _queues() -> Panels:
    return [
        lines(
            "In flight and waiting",
            "By model.",
            [
                Query(f"sum by (model) (infoprune_{name}_requests{{{q.CHOSEN}}})", legend)
                for name, legend in (
                    ("in_flight", "{{model}} in flight"),
                    ("waiting", "{{model}} waiting"),
                )
            ],
            unit="short",
            look=_LOAD,
        ),
        lines(
            "Wait for a worker, p95",
            "In the gateway's queue, by model.",
            [Query(q.quantile(0.95, q.QUEUE_TIME, q.CHOSEN, by="model"), "{{model}}")],
            unit="s",
        ),
        lines(
            "Bytes in hand",
            "Request bodies and fetched images, by gateway process.",
            [
                Query(
                    "sum by (instance, replica) (infoprune_in_flight_bytes)",
                    "{{instance}} {{replica}}",
                )
            ],
            unit="bytes",
        ),
    ]


def _workers() -> Panels:
    return [
        lines(
            "Workers ready, trusted, with an open breaker",
            "Ready: the registry says so. Trusted: probes and the breaker let requests through; the "
            "fewest of all gateway processes.",
            [
                Query(q.store("infoprune_ready_workers", q.CHOSEN, by="model"), "{{model}} ready"),
                Query(
                    f"min by (model) (infoprune_trusted_workers{{{q.CHOSEN}}})", "{{model}} trusted"
                ),
                Query(
                    q.store("infoprune_open_breakers", q.CHOSEN, by="model"),
                    "{{model}} open breaker",
                ),
            ],
            unit="short",
            look=_STANDING,
        ),
        lines(
            "Workers by status",
            "backoff: it failed to start, and is tried again later.",
            [
                Query(
                    f"sum by (status) ({q.store('infoprune_workers', q.CHOSEN, by='model, status')})",
                    "{{status}}",
                )
            ],
            unit="short",
            look=STATES,
        ),
    ]


def _failures() -> Panels:
    return [
        lines(
            "Restarts of workers, last hour",
            "By model.",
            [
                Query(
                    "sum by (model) (max by (model, worker) "
                    f"(increase(infoprune_worker_restarts_total{{{q.CHOSEN}}}[1h])))",
                    "{{model}}",
                )
            ],
            unit="short",
        ),
        lines(
            "Retries/s by reason",
            "Attempts at a worker that another had to make good.",
            [Query(q.rate("infoprune_retries_total", q.CHOSEN, by="reason"), "{{reason}}")],
            unit="ops",
            look=STACKED,
        ),
        lines(
            "Ejections and breaker openings",
            "Workers that did not answer probes, or whose requests failed, a second.",
            [
                Query(
                    q.rate("infoprune_worker_ejections_total", q.CHOSEN, by="model"),
                    "{{model}} ejected",
                ),
                Query(
                    q.rate("infoprune_breaker_openings_total", q.CHOSEN, by="model"),
                    "{{model}} breaker opened",
                ),
            ],
            unit="ops",
        ),
    ]


def _processes() -> Builder[models.Panel]:
    return lines(
        "Requests/s by gateway process",
        "Processes that share a port are told apart by `replica`.",
        [Query(f"{_PER_PROCESS}(rate({q.REQUESTS}[{q.RATE}]))", _PROCESS)],
        unit="reqps",
        look=STACKED,
    )
