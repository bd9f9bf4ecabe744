"""The metrics as a whole: names, labels, help, buckets, and the page that is printed from them."""

from __future__ import annotations

import importlib.util
import re
import runpy
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from compressor.job import STAGES
from service.gateway.comparison_metrics import ComparisonMetrics
from service.gateway.lineage import Lineage
from service.telemetry import buckets, collectors
from service.telemetry.catalogue import CATALOGUE
from service.telemetry.metrics import Metrics
from service.telemetry.reference import reference
from service.telemetry.spec import Spec
from tests.support.measured import comparison, jobs, world

LABELS = {
    "alias", "base", "bound", "candidate", "criterion", "dataset", "kind", "measure", "model",
    "outcome", "part", "priority", "python", "quantile", "reason", "side", "stage", "state", "status",
    "variant", "verdict", "version", "worker",
}  # fmt: skip
"""Each is a name of the registry's, or from a set in the code. A new one is a decision."""

each = pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.name)


@each
def test_a_name_is_ours_and_ends_as_prometheus_asks(spec: Spec) -> None:
    assert re.fullmatch(r"infoprune(_[a-z0-9]+)+", spec.name)
    assert not spec.name.endswith(("_total", "_count", "_sum", "_bucket", "_milliseconds", "_ms"))
    assert not spec.name.endswith("percent"), "a share is a ratio: Prometheus's base unit"
    assert spec.exposed_name.endswith("_total") == (spec.kind == "counter")
    if spec.kind == "histogram":
        assert spec.unit == "seconds"
    if spec.name.endswith("_info"):
        assert spec.kind == "gauge"


@each
def test_help_is_a_sentence(spec: Spec) -> None:
    assert spec.help.endswith(".")
    assert spec.help[0].isupper() or spec.help[0].isdigit()
    assert "\n" not in spec.help


@each
def test_labels_are_few_and_known(spec: Spec) -> None:
    assert set(spec.labels) <= LABELS
    assert len(set(spec.labels)) == len(spec.labels) <= 5
    assert ("model" in spec.labels) == ("variant" in spec.labels), "never one without the other"


@each
def test_only_a_histogram_has_buckets_and_they_ascend(spec: Spec) -> None:
    assert bool(spec.buckets) == (spec.kind == "histogram")
    assert all(a < b for a, b in pairwise(spec.buckets))


def test_no_two_metrics_have_one_name() -> None:
    assert len({spec.name for spec in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize(
    ("ours", "engine"),
    [
        (buckets.FIRST_TOKEN_BUCKETS, "time_to_first_token"),
        (buckets.REQUEST_BUCKETS, "request_latency"),
        (buckets.QUEUE_BUCKETS, "request_latency"),
        (buckets.OUTPUT_TOKEN_BUCKETS, "inter_token_latency"),
    ],
)
def test_the_engines_bucket_edges_are_among_ours(ours: tuple[float, ...], engine: str) -> None:
    found = importlib.util.find_spec("vllm")  # finding it imports nothing of it
    assert found is not None
    assert found.submodule_search_locations is not None
    source = Path(found.submodule_search_locations[0]) / "v1" / "metrics" / "buckets.py"
    assert set(runpy.run_path(str(source))["histogram_buckets"](engine)) <= set(ours)


def test_stages_are_the_compressors() -> None:
    assert collectors.STAGES == STAGES


def exposed() -> dict[str, Metric]:
    """A gateway's families, where every collector has something to tell."""
    metrics = Metrics()
    snapshot = world()
    comparisons = ComparisonMetrics(metrics.registry, lambda: snapshot)
    comparisons.show_comparisons({"pair": comparison()})
    metrics.show_snapshot(snapshot)
    metrics.show_jobs(jobs())
    metrics.registry.register(Lineage(lambda: snapshot))
    text = generate_latest(metrics.registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_the_gateway_exposes_the_catalogue_and_nothing_else() -> None:
    assert set(exposed()) == {spec.name for spec in CATALOGUE}


def test_what_is_exposed_is_as_the_catalogue_says() -> None:
    families = exposed()
    for spec in CATALOGUE:
        family = families[spec.name]
        assert (family.type, family.documentation) == (spec.kind, spec.help), spec.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(spec.labels), spec.name
        if spec.shared:
            assert family.samples, f"{spec.name} tells nothing of a world that has everything"


def test_the_reference_is_what_the_code_prints() -> None:
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text() == reference(), (
        "python -m service.telemetry.reference > docs/metrics.md"
    )
