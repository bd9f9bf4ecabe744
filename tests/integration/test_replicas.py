"""Two gateway processes on one port and one Redis."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from redis import Redis

from service.registry import Registry, WorkerState
from service.settings import Settings
from tests.integration.conftest import entry
from tests.integration.test_compression_api import call
from tests.support.servers import two_gateways_within, wait_until

QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "red?"}]}
REQUESTS = 40


@pytest.fixture
def two(settings: Settings, redis: Redis, fake_engine: str, tmp_path: Path) -> Iterator[str]:
    Registry(redis).put_model(entry("tiny"))
    Registry(redis).put_worker(WorkerState(id="w1", model="tiny", url=fake_engine, status="ready"))
    quick = settings.model_copy(update={"control_every_s": 0.2})
    with two_gateways_within(quick, redis, tmp_path) as url:
        yield url


def requests_counted(url: str) -> list[Sample]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
    return [s for f in families for s in f.samples if s.name == "infoprune_requests_total"]


def test_every_request_is_counted_once_whichever_process_answers_the_scrape(two: str) -> None:
    for _ in range(REQUESTS):
        assert call("POST", f"{two}/v1/chat/completions", QUESTION)[0] == 200

    def settled() -> bool:
        return sum(s.value for s in requests_counted(two)) == REQUESTS

    wait_until(settled)
    for _ in range(6):  # connections go to either process
        found = requests_counted(two)
        assert sum(s.value for s in found) == REQUESTS
        assert len({s.labels["replica"] for s in found}) == 2, "both took requests"


def test_what_one_process_changes_the_other_goes_by(two: str) -> None:
    status, _ = call("PUT", f"{two}/aliases/prod", {"targets": [{"model": "tiny"}]})
    assert status == 200

    def everywhere() -> bool:
        return all(call("GET", f"{two}/aliases/prod")[0] == 200 for _ in range(8))

    wait_until(everywhere)
