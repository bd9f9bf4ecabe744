"""A receiver of OTLP over HTTP in a thread of this process: what spans really arrive, decoded."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Received:
    """One span."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, str | int | float | bool]


@dataclass
class Receiver:
    """What came."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Received] = field(default_factory=list)

    def named(self, name: str) -> list[Received]:
        """Spans of a name."""
        return [span for span in self.spans if span.name == name]

    async def take(self, request: web.Request) -> web.Response:
        """`POST /v1/traces`."""
        body = await request.read()
        if request.headers.get("content-encoding") == "gzip":  # aiohttp has not done so
            body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
        self.bodies.append(body)
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {a.key: a.value.string_value for a in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                for s in of_scope.spans:
                    found = {
                        a.key: getattr(a.value, str(a.value.WhichOneof("value")))
                        for a in s.attributes
                    }
                    self.spans.append(
                        Received(
                            resource["service.name"], s.name, s.trace_id.hex(), s.span_id.hex(),
                            s.parent_span_id.hex(), found,
                        )
                    )  # fmt: skip
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


@contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    """Takes spans until the block ends."""
    receiver, loop = Receiver(), asyncio.new_event_loop()
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/traces", receiver.take)
    runner = web.AppRunner(app)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    receiver.url = f"http://127.0.0.1:{loop.run_until_complete(start())}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(runner.cleanup())
        loop.close()
