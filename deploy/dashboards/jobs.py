"""*Jobs*: compressions, evaluations and canaries."""

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
    Query,
    headline,
    lines,
)

Panels = list[Builder[models.Panel]]
_ALIAS = 'alias=~"$alias"'
_PAIR = "alias, candidate"


def jobs() -> builders.Dashboard:
    """The dashboard."""
    made = empty(
        "infoprune-jobs",
        "InfoPrune: jobs and roll-outs",
        "Compressions, evaluations, and canaries.",
        [
            choice(
                "model",
                "Model",
                "Of the evaluations",
                "label_values(infoprune_accuracy_ratio, model)",
                several=True,
            ),
            choice(
                "alias",
                "Alias",
                "Of the roll-outs",
                "label_values(infoprune_canary_state, alias)",
                several=True,
            ),
        ],
    )
    made = row(made, "Compressions now", _now())
    made = row(made, "Compressions", _compressions())
    made = row(made, "Evaluations", _evaluations())
    return row(made, "Canaries", [*_shares(), *_judgement()])


def _now() -> Panels:
    def count(status: str) -> str:
        return q.store("infoprune_jobs", f'status="{status}"')

    return [
        headline(
            "Running",
            "Jobs that a runner works on.",
            count("running"),
            unit="short",
            decimals=0,
            steps=[(None, GREY), (1, BLUE)],
            span=6,
        ),
        headline(
            "Waiting",
            "Jobs that no runner has taken.",
            count("queued"),
            unit="short",
            decimals=0,
            steps=[(None, GREY), (1, BLUE), (10, ORANGE)],
            span=6,
        ),
        headline(
            "Oldest waits",
            "How long the job waits that was queued first.",
            q.store("infoprune_oldest_queued_job_age_seconds"),
            unit="s",
            decimals=0,
            steps=[(None, GREEN), (1800, ORANGE), (7200, RED)],
            span=6,
        ),
        headline(
            "Failed",
            "Jobs that failed and whose record is still kept.",
            count("failed"),
            unit="short",
            decimals=0,
            steps=[(None, GREEN), (1, ORANGE)],
            span=6,
        ),
    ]


def _compressions() -> Panels:
    stage = "infoprune_job_stage_duration_seconds"
    sums, counts = (q.store(f"{stage}_{part}", by="stage") for part in ("sum", "count"))
    return [
        lines(
            "Jobs by status",
            "Of all records that are kept.",
            [Query(q.store("infoprune_jobs", by="status"), "{{status}}")],
            unit="short",
            look=STATES,
        ),
        lines(
            "Jobs that wait, by priority",
            "High goes first.",
            [Query(q.store("infoprune_queued_jobs", by="priority"), "{{priority}}")],
            unit="short",
            look=STACKED,
        ),
        lines(
            "Oldest job that waits",
            "Rises while no runner takes it.",
            [Query(q.store("infoprune_oldest_queued_job_age_seconds"), "age")],
            unit="s",
            limit=1800,
        ),
        lines(
            "Time of a stage, mean",
            "Over the finished jobs whose record is kept.",
            [Query(f"{sums} / ({counts} > 0)", "{{stage}}")],
            unit="s",
            span=12,
        ),
        lines(
            "Time of a finished job",
            "Median and p95 over the records that are kept; as fine as the histogram's buckets.",
            [
                Query(
                    f"histogram_quantile({share}, "
                    + q.store("infoprune_job_duration_seconds_bucket", 'status="finished"', by="le")
                    + ")",
                    name,
                )
                for share, name in ((0.5, "p50"), (0.95, "p95"))
            ],
            unit="s",
            span=12,
        ),
    ]


def _evaluations() -> Panels:
    chosen = q.CHOSEN
    bounds = {"value": "", "low": ", low", "high": ", high"}
    return [
        lines(
            "Accuracy",
            "By model and dataset, as last measured, with the bounds of the 95 % interval.",
            [
                Query(
                    q.store(q.ACCURACY, f'{chosen},bound="{bound}"', by="model, dataset"),
                    "{{model}} {{dataset}}" + suffix,
                )
                for bound, suffix in bounds.items()
            ],
            unit="percentunit",
            span=16,
            most=1,
        ),
        lines(
            "Questions asked",
            "Behind the accuracies. Few questions make wide intervals.",
            [
                Query(
                    q.store("infoprune_accuracy_samples", chosen, by="model, dataset"),
                    "{{model}} {{dataset}}",
                )
            ],
            unit="short",
        ),
    ]


def _shares() -> Panels:
    """Who answers how much."""
    return [
        lines(
            "Share of requests by model",
            "Of an alias, a running canary included.",
            [
                Query(
                    q.store("infoprune_alias_share_ratio", _ALIAS, by="alias, model"),
                    "{{alias}}: {{model}}",
                )
            ],
            unit="percentunit",
            most=1,
        ),
        lines(
            "Step of a running canary",
            "And how many steps it has.",
            [
                Query(
                    q.store("infoprune_canary_step", _ALIAS, by=_PAIR), "{{alias}}: {{candidate}}"
                ),
                Query(
                    q.store("infoprune_canary_steps", _ALIAS, by=_PAIR),
                    "{{alias}}: {{candidate}}, last step",
                ),
            ],
            unit="short",
        ),
        lines(
            "Share of a running canary",
            "Of the alias's requests, to the candidate.",
            [
                Query(
                    q.store("infoprune_canary_share_ratio", _ALIAS, by=_PAIR),
                    "{{alias}}: {{candidate}}",
                )
            ],
            unit="percentunit",
            most=1,
        ),
    ]


def _judgement() -> Panels:
    """How canaries fare."""
    return [
        lines(
            "Canaries by state",
            "Running now, or how the alias's last one ended.",
            [
                Query(
                    "sum by (state) ("
                    + q.store("infoprune_canary_state", _ALIAS, by=f"{_PAIR}, state")
                    + ")",
                    "{{state}}",
                )
            ],
            unit="short",
            look=STATES,
        ),
        lines(
            "Criteria by verdict",
            "Of running canaries and shadows: agreement, errors, latency.",
            [
                Query(
                    "sum by (verdict) ("
                    + q.store(
                        "infoprune_canary_criterion", _ALIAS, by=f"{_PAIR}, criterion, verdict"
                    )
                    + ")",
                    "{{verdict}}",
                )
            ],
            unit="short",
            look=STATES,
        ),
        lines(
            "Copies/s by outcome",
            "Copies of requests for the comparison; full and dropped ones cost a sample, no client.",
            [Query(q.rate("infoprune_shadow_copies_total", _ALIAS, by="outcome"), "{{outcome}}")],
            unit="ops",
        ),
    ]
