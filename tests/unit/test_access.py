"""The line of each request."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from service.settings import Settings
from service.telemetry.access import MOST_PENDING, AccessLog, Line, TextAccessLog, open_access_log

Capture = pytest.CaptureFixture[str]


def line(access: AccessLog, **changes: Any) -> Line:
    found = Line(access.now(), "info", "request", "r1", "POST", "/v1/vqa", 200, 0.25)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_a_line_is_one_json_object_without_what_is_not_known(capsys: Capture) -> None:
    access = AccessLog()
    access.tell(line(access, model="tiny", attempts=1))
    assert capsys.readouterr().out == "", "not on the hot path"
    access.flush()
    (written,) = map(json.loads, capsys.readouterr().out.splitlines())
    timestamp = datetime.fromisoformat(written.pop("timestamp"))
    assert abs((datetime.now(UTC) - timestamp).total_seconds()) < 60
    assert written == {
        "level": "info", "event": "request", "request_id": "r1", "method": "POST",
        "path": "/v1/vqa", "status": 200, "latency_s": 0.25, "model": "tiny", "attempts": 1,
    }  # fmt: skip


def test_lines_wait_for_a_moment_but_not_without_bound(capsys: Capture) -> None:
    access = AccessLog()
    for _ in range(MOST_PENDING):
        access.tell(line(access))
    assert len(capsys.readouterr().out.splitlines()) == MOST_PENDING
    access.flush()
    assert capsys.readouterr().out == "", "each is written once"


def test_settings_choose_who_reads_it() -> None:
    assert open_access_log(Settings(log_level="warning")) is None
    assert type(open_access_log(Settings())) is AccessLog
    assert type(open_access_log(Settings(log_format="text"))) is TextAccessLog
