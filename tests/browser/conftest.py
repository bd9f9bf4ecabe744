"""What browser tests share: Chromium, the real gateway with two models, and a page that is watched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from redis import Redis

from compressor.report.page import page as report_page
from deploy.chromium import MISSING, browser, find_chromium
from service.jobs.records import JobRecords
from service.registry import Flops, Interval, ModelEntry, Registry, WorkerState
from service.settings import Settings
from service.store import EmbeddedValkey
from service.workers.manager import free_port
from tests.support.http import call
from tests.support.servers import fake_openai_within, gateway_within
from tests.unit.test_report import evidence, report

ORIGINAL, COMPRESSED = "shapes", "shapes-half"
PATIENCE_MS = 30_000.0


@dataclass
class Watched:
    """A page and everything that went wrong in it; what a test provokes on purpose it takes out."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        """Open a path under `/ui/`."""
        self.page.goto(f"{self.url}/ui/{path}")
        return self.page

    def expect_fault(self, text: str) -> None:
        """Take out what was provoked; an assertion error where it did not happen."""
        left = [fault for fault in self.faults if text not in fault]
        assert len(left) < len(self.faults), (text, self.faults)
        self.faults[:] = left


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip(MISSING)
    with browser() as opened:
        yield opened


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a fake engine that says "yes", slowly enough to be seen."""
    with fake_openai_within(tmp_path_factory.mktemp("fake"), "x") as url:
        yield url


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    store = EmbeddedValkey(tmp_path / "valkey", log=tmp_path / "valkey.log")
    with Redis.from_url(store.start()) as client:
        yield client
    store.stop()


@pytest.fixture
def settings(redis: Redis, tmp_path: Path) -> Settings:
    arguments = redis.connection_pool.connection_kwargs
    return Settings(
        auth="off",
        port=free_port(),
        redis_url=f"redis://:{arguments['password']}@{arguments['host']}:{arguments['port']}",
        run_dir=tmp_path / "run",
        registry_poll_s=0.1,
        control_every_s=0.2,
        drain_timeout_s=0.5,
        max_body_bytes=300_000,
        evaluate_finished=False,
    )


@pytest.fixture
def models(redis: Redis, engine: str) -> None:
    """An original and a compressed model, each with a worker."""
    registry = Registry(redis)
    for number, made in enumerate((original(), compressed())):
        registry.put_model(made)
        worker = WorkerState(id=f"w{number}", model=made.name, url=engine, status="ready")
        registry.put_worker(worker)


@pytest.fixture
def gateway(settings: Settings, models: None) -> Iterator[str]:
    """URL of a gateway that asks for no key."""
    del models
    with gateway_within(settings):
        yield settings.gateway_url


@pytest.fixture
def locked(settings: Settings, models: None) -> Iterator[str]:
    """URL of a gateway that asks for keys."""
    del models
    with gateway_within(settings.model_copy(update={"auth": "keys"})):
        yield settings.gateway_url


@pytest.fixture
def watch(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """Makes a page of a gateway; whatever went wrong in it fails the test at its end."""
    made: list[tuple[BrowserContext, Watched]] = []

    def open_page(url: str, **options: object) -> Watched:
        context = chromium.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)  # curves need two readings, 5 s apart
        found = Watched(context.new_page(), url)
        listen(found)
        made.append((context, found))
        return found

    yield open_page
    for context, watched in made:
        context.close()
        assert watched.faults == []


@pytest.fixture
def web(gateway: str, watch: Callable[..., Watched]) -> Watched:
    """A page of the gateway that asks for no key."""
    return watch(gateway)


def change(method: str, url: str, body: object = None) -> Any:
    """Change something behind the page's back; an assertion error where it is refused."""
    reply = call(method, url, body, {"content-type": "application/json"})
    assert reply.status < 300, reply
    return reply.json()


def listen(watched: Watched) -> None:
    """Hear of errors on the console (broken security policies among them) and failed requests."""
    page, faults = watched.page, watched.faults
    page.on("console", lambda m: faults.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "requestfailed",
        # A page that is left gives up what it was asking.
        lambda r: (
            None if "ERR_ABORTED" in str(r.failure) else faults.append(f"{r.url} {r.failure}")
        ),
    )


def original() -> ModelEntry:
    return ModelEntry(
        name=ORIGINAL, path="/nowhere", variant="original", params=14_061_056,
        flops=Flops(vision=858.8e6, projector=16.8e6, prefill=1191e6, decode_token=13.8e6,
                    visual_tokens=64, text_tokens=25),
        accuracy={"easy-vqa": Interval(value=0.99, low=0.98, high=1.0, n=200)},
        created=time.time() - 7200,
    )  # fmt: skip


def compressed() -> ModelEntry:
    difference = {"value": -0.004, "low": -0.012, "high": 0.004, "n": 200}
    return ModelEntry(
        name=COMPRESSED, path="/nowhere", variant="compressed", base=ORIGINAL, params=7_417_168,
        flops=Flops(vision=457.3e6, projector=16.8e6, prefill=558.8e6, decode_token=6.7e6,
                    visual_tokens=64, text_tokens=25),
        accuracy={"easy-vqa": Interval(value=0.986, low=0.97, high=1.0, n=200)},
        recipe={"flops": 0.5}, plan_sha256="9f" * 32, job=None,
        measured={"accuracy_difference": {"easy-vqa": difference}},
        created=time.time() - 3600,
    )  # fmt: skip


@pytest.fixture
def finished(redis: Redis, models: None, tmp_path: Path) -> str:
    """The id of a finished job, of which `shapes-half` is the result; its report is real."""
    del models
    page = tmp_path / "half" / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(report_page(evidence()))
    records = JobRecords(redis)
    job, _ = records.create(ORIGINAL, COMPRESSED, {"flops": 0.5})
    token = records.claim(job.id)
    assert token is not None
    records.log(job.id, f"finished: {COMPRESSED}")
    Registry(redis).remove_model(COMPRESSED)
    made = compressed().model_copy(update={"job": job.id, "path": str(tmp_path / "half")})
    assert records.end(job.id, "finished", token=token, report=report().to_json(), model=made)
    return job.id


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small picture."""
    path = tmp_path / "red.png"
    Image.new("RGB", (64, 64), (200, 30, 30)).save(path)
    return path
