"""Structured logs: one JSON object a line, with what is bound to the task that writes it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import structlog

from service.telemetry.logs import bind, bound, bound_to, configure_logging, request_id

Log = Callable[..., Path]


@pytest.fixture
def log_to(tmp_path: Path) -> Iterator[Log]:
    """Configures logging to a file, until the test ends: loggers of other tests are theirs."""
    root, opened = logging.getLogger(), list[IO[str]]()
    handlers, level = root.handlers[:], root.level

    def configure(**how: Any) -> Path:
        root.handlers[:] = []  # pytest's must not be closed
        bind()  # nothing of what other tests bound
        opened.append(configure_logging(tmp_path / "log", **how))
        return tmp_path / "log"

    yield configure
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for file in opened:
        file.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_json_with_level_time_and_what_is_bound(log_to: Log) -> None:
    log = log_to()
    with bound_to(request_id="r1"):
        structlog.get_logger().info("worker ready", model="tiny")
    structlog.get_logger().info("later")

    first, second = lines(log)
    assert first.items() >= {
        "event": "worker ready", "level": "info", "model": "tiny", "request_id": "r1",
    }.items()  # fmt: skip
    assert first["timestamp"].endswith("Z")
    assert "request_id" not in second


def test_lines_under_the_level_are_not_written(log_to: Log) -> None:
    log = log_to(level="warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(log)] == ["loud"]


def test_other_libraries_records_are_json_too_and_only_warnings(log_to: Log) -> None:
    log = log_to()
    logging.getLogger("some.library").info("chatter")
    with bound_to(job="j1"):
        logging.getLogger("some.library").warning("lost %s", "it")
    (line,) = (line for line in lines(log) if line.get("logger") == "some.library")
    assert line["event"] == "lost it"
    assert (line["logger"], line["level"], line["job"]) == ("some.library", "warning", "j1")


def fail(secret: str) -> None:
    raise ValueError(f"no use for {len(secret)} letters")


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_shows_no_local_variables(log_to: Log, form: Any) -> None:
    log = log_to(form=form)
    try:
        fail("-".join(("very", "secret")))
    except ValueError:
        structlog.get_logger().exception("it failed")
    written = log.read_text()
    assert "no use for 11 letters" in written
    assert "very-secret" not in written


def test_text_is_for_people(log_to: Log) -> None:
    log = log_to(form="text")
    structlog.get_logger().info("worker ready", model="tiny")
    assert log.read_text().rstrip().endswith("model=tiny")


def test_what_cannot_be_json_is_written_by_its_name(log_to: Log) -> None:
    log = log_to()
    structlog.get_logger().info("odd", value=ValueError("x"), half="\ud800")
    assert len(log.read_text().splitlines()) == 1


async def test_tasks_and_threads_belong_to_the_request_that_started_them() -> None:
    async def request(name: str) -> str:
        bind(request_id=name)
        await asyncio.sleep(0)
        return (await asyncio.to_thread(bound))["request_id"]

    assert list(await asyncio.gather(request("a"), request("b"))) == ["a", "b"]
    assert bound().get("request_id") not in {"a", "b"}


@pytest.mark.parametrize("given", [b"abc", b"A-1_2.3:4/5", b"x" * 128])
def test_a_clients_request_id_is_kept(given: bytes) -> None:
    assert request_id(given) == given.decode()


@pytest.mark.parametrize(
    "given", [None, b"", b"x" * 129, b"two words", b'quo"te', b"line\nbreak", b"\xff", b"a,b"]
)
def test_one_that_may_not_stand_in_logs_and_headers_is_replaced(given: bytes | None) -> None:
    made = request_id(given)
    assert len(made) == 32
    assert int(made, 16) >= 0
    assert made != request_id(given)
