"""Every panel's query on a real Prometheus that scrapes the real gateway; the engines are fakes.

Their own metrics are a recording of a real vLLM's; tests/e2e/test_demo.py asks a living one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import yaml
from redis import Redis

from service.evaluations.runner import EvaluationRunner
from service.jobs.records import JobRecords
from service.registry import Registry, Usage, WorkerState
from service.settings import Settings
from service.store import EmbeddedValkey
from service.workers.manager import free_port
from tests.support.http import call, chat
from tests.support.prometheus import (
    CONFIGURATION,
    PanelQuery,
    Prometheus,
    last_scrape,
    panel_queries,
    prometheus,
    variable_queries,
    with_variables,
)
from tests.support.registry import model
from tests.support.servers import answers, engine_within, gateway_within, running, wait_until

CHOSEN = {
    "original": "tiny", "compressed": "small", "alias": ".+", "model": ".+",
    "__range": "60s", "__rate_interval": "30s",
}  # fmt: skip
COMPARISON = "comparison"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A service in which everything happens that a panel shows, and Prometheus beside it."""
    directory = tmp_path_factory.mktemp("dashboards")
    with ExitStack() as stack:
        store = EmbeddedValkey(directory / "valkey", log=directory / "valkey.log")
        url = store.start()
        stack.callback(store.stop)
        redis = stack.enter_context(Redis.from_url(url))
        settings = Settings(
            auth="off", port=free_port(), redis_url=url, run_dir=directory / "run",
            registry_poll_s=0.2, drain_timeout_s=0.5, evaluate_finished=False,
            probe_timeout_s=0.5, stall_timeout_s=3.0, model_roots=(Path("/nowhere"),),
        )  # fmt: skip
        broken = stack.enter_context(_engines(redis, directory))
        stack.enter_context(gateway_within(settings))
        gateway = settings.gateway_url
        wait_until(lambda: call("GET", f"{gateway}/ready").status == 200)
        found = stack.enter_context(prometheus(directory, f"127.0.0.1:{settings.port}"))
        _roll_out(gateway)
        _compress(redis)
        stack.enter_context(_traffic(gateway, redis, broken))
        _evaluate(gateway, redis, settings)
        yield found


@contextmanager
def _engines(redis: Redis, directory: Path) -> Iterator[str]:
    """An original, its compressed model, and one whose second worker fails; the URL of that worker."""
    registry = Registry(redis)
    registry.put_model(model("tiny", params=100))
    registry.put_model(
        model("small", variant="compressed", base="tiny", plan_sha256="1", params=50)
    )
    registry.put_model(model("shaky"))
    with ExitStack() as stack:
        ports = {name: free_port() for name in ("tiny", "small")}
        for name, port in ports.items():
            arguments = ("--port", str(port), "--name", name)
            log = directory / f"{name}.log"
            stack.enter_context(running("tests.support.fake_openai", *arguments, log=log))
        broken = stack.enter_context(engine_within())
        for name, port in ports.items():
            wait_until(partial(answers, port, "/v1/models"))
            _report(registry, name, f"http://127.0.0.1:{port}", cpu_s=0.0)
        sound = f"http://127.0.0.1:{ports['tiny']}"
        for name, address in (("sound", sound), ("broken", broken)):
            registry.put_worker(WorkerState(id=name, model="shaky", url=address, status="ready"))
        yield broken


def _report(registry: Registry, name: str, url: str, *, cpu_s: float) -> None:
    """What the workers' manager writes of a worker on a machine with a graphics card."""
    usage = Usage(cpu_s=cpu_s, resident_bytes=10**9, gpu_bytes=10**9, gpu_busy=0.5)
    state = WorkerState(id=f"w-{name}", model=name, url=url, status="ready", usage=usage)
    registry.put_worker(state)


def _roll_out(gateway: str) -> None:
    """Two aliases: a canary that stays at its first step, and a shadow."""
    for alias in ("prod", "beside"):
        body = {"targets": [{"model": "tiny"}]}
        assert call("PUT", f"{gateway}/aliases/{alias}", body, JSON).status == 200
    slow = {"candidate": "small", "steps": [50, 100], "min_samples": 10**6, "mirror": 1.0}
    canary = call("POST", f"{gateway}/aliases/prod/canary", slow, JSON)
    copied = {"candidate": "small", "share": 1.0}
    shadow = call("POST", f"{gateway}/aliases/beside/shadow", copied, JSON)
    assert (canary.status, shadow.status) == (200, 200), canary.body + shadow.body


def _compress(redis: Redis) -> None:
    """A job that is finished and one that waits, as a runner leaves them."""
    records = JobRecords(redis)
    done, _ = records.create("tiny", "small-2", {"flops": 0.5})
    records.create("tiny", "small-3", {"flops": 0.4})
    token = records.claim(done.id)
    assert token is not None
    stages = {"score": 2.0, "prune": 3.0}
    assert records.progress(done.id, token, "prune", 50.0, 1.0, stages)
    assert records.end(done.id, "finished", token=token, report={})


@contextmanager
def _traffic(gateway: str, redis: Redis, broken: str) -> Iterator[None]:
    """Clients, until the block ends."""
    stopped = threading.Event()
    thread = threading.Thread(target=_ask_until, args=(stopped, gateway, redis, broken))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _ask_until(stopped: threading.Event, gateway: str, redis: Redis, broken: str) -> None:
    registry, chats = Registry(redis), f"{gateway}/v1/chat/completions"
    urls = {w.model: w.url for w in registry.snapshot().workers if w.id.startswith("w-")}
    rounds = 0
    while not stopped.wait(0.1):
        rounds += 1
        # Now it fails requests, so that its breaker opens; now it fails probes, so that it is ejected.
        mode = b"inner_error" if rounds % 40 < 20 else b"unhealthy"
        call("POST", f"{broken}/mode", mode)
        for name in ("prod", "beside", "tiny", "small"):
            for stream in (True, False):
                call(
                    "POST", chats, chat(model=name, stream=stream, user=f"u{rounds}", temperature=0)
                )
        for number in range(3):
            call("POST", chats, chat(f"shaky {number}?", model="shaky"))
        call("POST", chats, chat("reject", model="tiny"))
        call("POST", chats, chat(), headers={"origin": "http://elsewhere.example"})
        for name, url in urls.items():
            _report(registry, name, url, cpu_s=rounds / 10)


def _evaluate(gateway: str, redis: Redis, settings: Settings) -> None:
    asked = {"dataset": "easy-vqa", "models": ["tiny", "small"], "samples": 10}
    assert call("POST", f"{gateway}/evaluations", asked, JSON).status == 202
    assert EvaluationRunner(redis, settings, "test").run_next()


@pytest.mark.parametrize("query", panel_queries(), ids=str)
def test_a_panels_query_returns_data(scraped: Prometheus, query: PanelQuery) -> None:
    expr = with_variables(query.expr, CHOSEN)
    wait_until(lambda: bool(scraped.finite(expr)), timeout_s=90)


@pytest.mark.parametrize(
    ("panel", "parts"),
    [("Cores and graphics cards in use", {"cores", "cards"}), ("Memory", {"host", "cards"})],
)
def test_a_machine_with_graphics_cards_shows_their_use_beside_the_hosts(
    scraped: Prometheus, panel: str, parts: set[str]
) -> None:
    """The demo's test asks the same queries of a machine without one."""
    queries = [q for q in panel_queries() if (q.dashboard, q.panel) == (COMPARISON, panel)]
    assert len(queries) == 2, "the original's and the compressed model's"
    for query in queries:
        wait_until(partial(_shows, scraped, with_variables(query.expr, CHOSEN), parts))


def _shows(server: Prometheus, expr: str, parts: set[str]) -> bool:
    return {sample["metric"]["on"] for sample in server.ask(expr)} == parts


@pytest.mark.parametrize("query", variable_queries(), ids=str)
def test_a_dashboards_choices_are_what_there_is(scraped: Prometheus, query: PanelQuery) -> None:
    names = {
        "original": {"tiny", "shaky"}, "compressed": {"small"}, "model": {"tiny", "small"},
        "alias": {"prod"},
    }[query.ref]  # fmt: skip
    asked = with_variables(query.expr, CHOSEN)
    wait_until(lambda: names <= scraped.label_values(asked), timeout_s=90)


def test_what_was_scraped_can_be_asked_for_later(scraped: Prometheus) -> None:
    wait_until(lambda: bool(scraped.finite("up == 1")))
    assert scraped.finite('up{job="infoprune-gateway"}', at=last_scrape(scraped)) == [1.0]


def test_every_rule_is_loaded_and_works(scraped: Prometheus) -> None:
    content = yaml.safe_load((CONFIGURATION / "alerts.yml").read_text())
    names = {rule["alert"] for group in content["groups"] for rule in group["rules"]}
    wait_until(lambda: all(rule["health"] == "ok" for rule in scraped.alerts()))
    assert {rule["name"] for rule in scraped.alerts()} == names


def test_the_ratios_are_recorded(scraped: Prometheus) -> None:
    pair = '{model="small", base="tiny"}'
    wait_until(lambda: bool(scraped.finite(f"infoprune:compressed:p95_ratio_5m{pair}")))
    wait_until(lambda: scraped.finite(f"infoprune:compressed:accuracy_drop{pair}") == [0.0])


def test_the_gateway_names_the_workers_that_can_be_scraped(scraped: Prometheus) -> None:
    def found() -> set[str]:
        return {sample["metric"]["model"] for sample in scraped.ask('up{job="vllm"} == 1')}

    wait_until(lambda: {"tiny", "small"} <= found())
