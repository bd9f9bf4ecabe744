"""`infoprune evaluate --endpoint` against a server that counts, stalls, fails and is killed for."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from compressor.evaluate.answers import FILE, AnswerLog, EvaluationError, Question, questions
from compressor.evaluate.datasets import examples
from compressor.evaluate.endpoint import Retry, ask_endpoint, open_endpoint
from tests.support.servers import ROOT

ASKED = {"easy-vqa": examples("easy-vqa", "test", samples=40, seed=3)}
TODO = questions({"tiny": {}}, ASKED)
AT_ONCE = Retry(attempts=4, first_s=0.001, longest_s=0.001)


@dataclass
class Server:
    """Answers "yes", after what a test wants to happen."""

    before: Callable[[int], Awaitable[web.Response | None]]
    """Gets the number of a request, from 1; a response of its own, or None."""
    seen: Counter[str] = field(default_factory=Counter)
    """How often each question (its text and picture) of each model was asked."""
    keys: set[str | None] = field(default_factory=set)
    at_once: int = 0
    most_at_once: int = 0
    answered: int = 0

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.seen[json.dumps([body["model"], body["messages"]])] += 1
        self.keys.add(request.headers.get("authorization"))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            own = await self.before(sum(self.seen.values()))
        finally:
            self.at_once -= 1
        if own is not None:
            return own
        self.answered += 1
        return web.json_response({"choices": [{"message": {"content": "Yes."}}]})


Start = Callable[[Callable[[int], Awaitable[web.Response | None]]], Awaitable[tuple[Server, str]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a server; gives it and its URL."""
    running: list[TestServer] = []

    async def begin(
        before: Callable[[int], Awaitable[web.Response | None]],
    ) -> tuple[Server, str]:
        server, app = Server(before), web.Application(client_max_size=2**24)
        app.router.add_post("/v1/chat/completions", server.chat)
        running.append(TestServer(app))
        await running[-1].start_server()
        return server, str(running[-1].make_url("")).rstrip("/")

    yield begin
    for one in running:
        await one.close()


async def ask(
    url: str, log: AnswerLog, *, concurrency: int = 8, todo: list[Question] = TODO
) -> None:
    async with open_endpoint(url, api_key="k", concurrency=concurrency, retry=AT_ONCE) as endpoint:
        await ask_endpoint(
            endpoint, todo, log, concurrency=concurrency, advance=lambda question: None
        )


async def soon(number: int) -> None:
    await asyncio.sleep(0.02)


def refusal(status: int, message: str, **headers: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


async def test_questions_are_asked_in_parallel_up_to_the_limit(
    start: Start, tmp_path: Path
) -> None:
    server, url = await start(soon)
    with AnswerLog(tmp_path) as log:
        await ask(url, log, concurrency=6)
        assert log.missing(TODO) == []
        assert {log[question] for question in TODO} == {"Yes."}
    assert server.most_at_once == 6
    assert server.keys == {"Bearer k"}
    assert set(server.seen.values()) == {1}
    body = json.loads(next(iter(server.seen)))
    assert [part["type"] for part in body[1][0]["content"]] == ["image_url", "text"]


async def test_passing_failures_are_tried_again(start: Start, tmp_path: Path) -> None:
    async def fail_often(number: int) -> web.Response | None:
        kinds = [refusal(429, "slow down", **{"retry-after": "0"}), refusal(503, "starting"), None]
        return kinds[number % 3]

    server, url = await start(fail_often)
    with AnswerLog(tmp_path) as log:
        await ask(url, log, concurrency=1)
        assert log.missing(TODO) == []
    assert server.answered == len(TODO)
    assert sum(server.seen.values()) > len(TODO)


async def test_what_was_answered_before_it_gave_up_is_not_asked_again(
    start: Start, tmp_path: Path
) -> None:
    broken = True

    async def break_later(number: int) -> web.Response | None:
        return refusal(503, "No worker is ready.") if broken and number > 10 else None

    server, url = await start(break_later)
    with AnswerLog(tmp_path) as log:
        with pytest.raises(EvaluationError, match=r"4 attempts \(status 503: No worker is ready\)"):
            await ask(url, log, concurrency=1)
        left = log.missing(TODO)
    assert len(left) == len(TODO) - 10
    broken = False
    with AnswerLog(tmp_path) as log:
        await ask(url, log, todo=log.missing(TODO))
        assert log.missing(TODO) == []
    assert server.answered == len(TODO)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (refusal(400, "too long"), r"'tiny' with status 400 \(too long\)\."),
        (refusal(401, "who?"), r"status 401 \(who\?\); name its key by --api-key-env"),
        (web.Response(text="hello"), "does not answer like OpenAI's chat completions"),
        (web.json_response({"choices": []}), "does not answer like OpenAI's chat completions"),
    ],
)
async def test_a_refusal_is_told_at_once(
    start: Start, tmp_path: Path, response: web.Response, message: str
) -> None:
    async def refuse(number: int) -> web.Response:
        return response

    server, url = await start(refuse)
    with AnswerLog(tmp_path) as log, pytest.raises(EvaluationError, match=message):
        await ask(url, log, concurrency=1, todo=TODO[:1])
    assert sum(server.seen.values()) == 1


async def command(url: str, out: Path, *more: str) -> asyncio.subprocess.Process:
    arguments = ["--endpoint", url, "--out", str(out), "--samples", "40", "--model", "tiny", *more]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.cli", "evaluate", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_a_killed_run_goes_on_where_it_was(start: Start, tmp_path: Path) -> None:
    stalled = asyncio.Event()

    async def stall_after_25(number: int) -> None:
        if 25 < number <= 28:
            if server.at_once == 3:
                stalled.set()
            await asyncio.sleep(60)

    server, url = await start(stall_after_25)
    out = tmp_path / "report.json"
    both = ("--model", "small", "--concurrency", "3", "--json")
    process = await command(url, out, *both)
    await asyncio.wait_for(stalled.wait(), 60)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert not out.exists()
    assert (tmp_path / "report.answers" / FILE).read_bytes().count(b"\n") == 25

    process = await command(url, out, *both)
    printed, _ = await process.communicate()

    assert process.returncode == 0
    repeated = [count for count in server.seen.values() if count > 1]
    assert (len(server.seen), repeated) == (80, [2, 2, 2])  # only the three that were under way
    report: dict[str, Any] = json.loads(out.read_text())
    assert json.loads(printed) == report
    assert list(report["models"]) == ["tiny", "small"]
    truth = sum(e.answer == "yes" for e in examples("easy-vqa", "test", samples=40, seed=0)) / 40
    assert report["models"]["tiny"]["accuracy"]["easy-vqa"]["value"] == pytest.approx(truth)
    assert report["mean_difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 40}
    assert report["prompt"]["ocr_tokens"] is False


async def test_the_table_has_a_row_for_each_dataset_and_their_mean(
    start: Start, tmp_path: Path
) -> None:
    _, url = await start(soon)
    names = ("--dataset", "easy-vqa", "--dataset", "drawn-scenes")
    process = await command(url, tmp_path / "report.json", *names)
    printed, progress = await process.communicate()
    assert process.returncode == 0
    first_cells = [
        line.split("│")[1].strip() for line in printed.decode().splitlines() if "│" in line
    ]
    assert first_cells == ["easy-vqa", "drawn-scenes", "mean"]
    assert b"tiny, 100 %" in progress
