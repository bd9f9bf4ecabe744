"""The gateway is told to stop in the midst of streams."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from tests.faults.conftest import Service
from tests.faults.figures import Figures, record
from tests.support.http import Reply, call, chat, events
from tests.support.servers import wait_until


def test_sigterm_during_streams(service: Service) -> None:
    """A stream lasts 4 s, the drain 1 s: what is cut ends with an error event, none in silence."""
    url = service.settings.gateway_url + "/v1/chat/completions"

    def ask(_: int) -> Reply:
        return call("POST", url, chat("gently", stream=True))

    with ThreadPoolExecutor(32) as pool:
        replies = [pool.submit(ask, i) for i in range(32)]
        time.sleep(2.0)
        started = time.monotonic()
        service.gateway_process().send_signal(signal.SIGTERM)
        ends = [list(events(reply.result().body))[-1] for reply in replies]
    wait_until(lambda: service.gateway.poll() is not None)
    told = sum(end != "[DONE]" for end in ends)
    seconds = time.monotonic() - started
    record(
        Figures("SIGTERM of the gateway during streams", seconds, lost=0, streams=32 - told,
                told=told, remark="time until it is gone")
    )  # fmt: skip
    assert all(end == "[DONE]" or end["error"]["code"] == "shutting_down" for end in ends)
    assert any(end != "[DONE]" for end in ends)
