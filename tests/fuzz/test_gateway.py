"""Thousands of hostile requests: every answer is deliberate, none takes long, nothing is left behind.

Three sources: schemathesis over the gateway's own OpenAPI document, a corpus of hostile bodies, and
mutations of real requests and images. `INFOPRUNE_FUZZ_CASES` sets how many mutations (default 5000).
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from PIL import Image

from service.settings import Settings
from service.workers.process import GuardedProcess
from tests.fuzz.conftest import Target
from tests.support.http import call, chat
from tests.support.servers import ROOT

CASES = int(os.environ.get("INFOPRUNE_FUZZ_CASES", "5000"))
SLOW_S = 20.0
DELIBERATE = {502, 503, 504}
"""A worker that breaks off, an overload, a deadline; 500 and 501 are never ours."""


def image(kind: str, size: tuple[int, int] = (24, 24)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, kind)
    return file.getvalue()


def image_url(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()


def with_image(url: Any) -> bytes:
    body = chat()
    body["messages"][0]["content"] = [{"type": "image_url", "image_url": {"url": url}}]
    return json.dumps(body).encode()


def deep(opening: bytes, closing: bytes, depth: int = 50_000) -> bytes:
    return opening * depth + b"1" + closing * depth


CORPUS: list[bytes] = [
    b"", b" ", b"\x00", b"{", b"}", b"[]", b"null", b"true", b"NaN", b'"model"', b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}", b"{}", b'{"model": null}', b'{"model": 1}', b'{"model": ""}',
    b'{"model": "tiny"}', b'{"model": "tiny", "messages": null}', b'{"model":"tiny","messages":{}}',
    b'{"model":"tiny","messages":[null]}', b'{"model":"tiny","messages":[[]]}',
    b'{"model":"tiny","messages":[{"content":{}}]}', b'{"model":"tiny","messages":[{"content":[1]}]}',
    b'{"model":"tiny","messages":[{"content":[null]}]}', b'{"model":"\\ud800"}',
    b'{"model":"' + b"a" * 100_000 + b'"}', b'{"model":"tiny","stream":"yes"}',
    b'{"model":"tiny","n":1e99,"messages":[]}', b'{"model":"tiny","n":-1,"messages":[]}',
    b'{"model":"tiny","max_tokens":99999999999999999999,"messages":[]}',
    b'{"model":"tiny","stream_options":[],"messages":[]}',
    b'{"model":"tiny","stream":true,"stream_options":null,"messages":[]}',
    b'{"model":"tiny","stream":true,"stream_options":{"include_usage":null},"messages":[]}',
    b'{"model":"tiny","model":"huge","messages":[]}', b'{"model":"../../etc/passwd"}',
    b'{"model":"tiny\\r\\nx-evil: 1","messages":[]}', b'{"mod\\u0065l":"tiny","messages":[]}',
    deep(b"[", b"]"), b'{"model":"tiny","messages":' + deep(b"[", b"]") + b"}",
    b'{"model":"tiny","x":' + deep(b'{"a":', b"}") + b',"messages":[]}',
    b'{"model":"tiny","messages":[' + b'{"role":"user","content":"x"},' * 20_000 + b"{}]}",
    *(with_image(url) for url in (
        None, 1, "", "x", "data:", "data:,", "data:image/png;base64,", "data:;base64,AAAA",
        "http://", "http:///", "https://[::1", "http://a b/", "http://\x00/", "file:///etc/passwd",
        "gopher://127.0.0.1/", "http://127.0.0.1:6379/", "http://[::ffff:169.254.169.254]/",
        "http://0/", "http://0177.0.0.1/", "HTTP://LOCALHOST/", "http://a@127.0.0.1/",
        "javascript:alert(1)", "data:image/svg+xml;base64,PHN2Zy8+", "data:text/html;base64,PGI+",
        image_url(image("PNG", (6000, 9000))), image_url(b"GIF89a" + b"\xff" * 900),
        image_url(b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\x00" * 99),
        image_url(b"\x89PNG\r\n\x1a\n" + b"\x00" * 99), image_url(b"BM" + b"\xff" * 99),
        image_url(b"\xff\xd8\xff\xe0" + b"\xff" * 5000),
    )),
]  # fmt: skip
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/vqa", "/compress")


def mutated(draw: random.Random) -> bytes:
    """A real request, or a request with a real image, with some bytes changed, moved or gone."""
    kind = draw.choice(["PNG", "JPEG", "WEBP", "GIF", "BMP"])
    if draw.random() < 0.5:
        content = bytearray(image(kind))
        for _ in range(draw.randint(1, 8)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        return with_image(image_url(bytes(content[: draw.randint(1, len(content))])))
    body = bytearray(
        draw.choice(
            [with_image(image_url(image(kind))), json.dumps(chat(stream=True, n=2)).encode()]
        )
    )
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(body))
        what = draw.randrange(3)
        if what == 0:
            body[at] = draw.randrange(256)
        elif what == 1:
            del body[at : at + draw.randint(1, 30)]
        else:
            body[at:at] = draw.choice([b'"', b"{", b"[", b",null", b"\\u0000", b"1e999", b"\xff"])
        if not body:
            return b""
    return bytes(body)


async def send_all(url: str, cases: list[tuple[str, bytes]]) -> Counter[int]:
    """Send every case; statuses. An answer that is wrong ends the test at once."""
    statuses: Counter[int] = Counter()
    slots = asyncio.Semaphore(16)

    async def one(session: aiohttp.ClientSession, path: str, body: bytes) -> None:
        async with slots:
            headers = {"content-type": "application/json"}
            async with session.post(url + path, data=body, headers=headers) as response:
                content = await response.read()
        statuses[response.status] += 1
        if response.status >= 500:
            assert response.status in DELIBERATE, (path, body[:500], content[:500])
        if response.status >= 400:
            error = json.loads(content)["error"]
            assert error["message"], (path, body[:500])

    timeout = aiohttp.ClientTimeout(total=SLOW_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await asyncio.gather(*(one(session, path, body) for path, body in cases))
    return statuses


def memory_bytes(gateway: GuardedProcess) -> int:
    (child,) = psutil.Process(gateway.pid).children()
    return int(child.memory_info().rss)


def in_hand(settings: Settings) -> str:
    text = call("GET", f"{settings.gateway_url}/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith("infoprune_in_flight_requests{")]
    return lines[0].rpartition(" ")[2]


async def test_no_body_of_the_corpus_is_too_much(target: Target) -> None:
    cases = [(path, body) for path in PATHS for body in CORPUS]
    statuses = await send_all(target.settings.gateway_url, cases)
    assert sum(statuses.values()) == len(cases)
    assert not statuses.keys() & {500, 501}


async def test_mutations_of_real_requests_and_images_get_deliberate_answers(target: Target) -> None:
    draw = random.Random(2026)
    url = target.settings.gateway_url
    warm = [(PATHS[0], mutated(draw)) for _ in range(CASES // 5)]
    await send_all(url, warm)
    before = memory_bytes(target.gateway)
    cases = [(draw.choice(PATHS[:2]), mutated(draw)) for _ in range(CASES)]
    started = time.monotonic()
    statuses = await send_all(url, cases)
    grown = memory_bytes(target.gateway) - before
    print(
        f"{CASES} mutations in {time.monotonic() - started:.0f} s: {dict(statuses)}, {grown} bytes"
    )
    assert statuses[400] > CASES // 10
    assert grown < 20 * 2**20
    assert in_hand(target.settings) == "0.0"


@pytest.mark.parametrize("count", [str(max(20, CASES // 50))])
def test_schemathesis_finds_no_server_error(target: Target, count: str, tmp_path: Path) -> None:
    """`not_a_server_error` over every operation of the document, streams of jobs excepted."""
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "run",
        f"{target.settings.gateway_url}/openapi.json", "--checks", "not_a_server_error",
        "--max-examples", count, "--request-timeout", str(SLOW_S), "--exclude-path-regex", "events",
        "--exclude-path", "/ready", "--seed", "1", "--phases", "examples,coverage,fuzzing",
        "--suppress-health-check", "all",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert call("GET", f"{target.settings.gateway_url}/health").status == 200
