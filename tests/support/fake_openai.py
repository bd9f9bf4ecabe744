"""A fake of vLLM's API server, where the engine is not the subject: `python -m ... --port P --name N`.

It answers every chat completion with "yes" or, if the question holds one of these words, misbehaves:
`reject` (status 400 in OpenAI's shape), `hang` (never ends), `break` (closes the connection).
Its `/metrics` are a recording of a real vLLM's, under its own model's name: they do not move.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

RECORDED = Path(__file__).with_name("vllm_0_32_0.prom")
USAGE = {"prompt_tokens": 90, "completion_tokens": 2, "total_tokens": 92}


def create_fake(name: str) -> FastAPI:
    """The application; `app.state.cancelled` counts the requests whose client went away."""
    app = FastAPI()
    app.state.cancelled = 0
    app.state.last = None
    app.state.heard = []

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name, "object": "model"}]}

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.get("/last")
    async def last() -> Any:
        return app.state.last

    app.add_api_route("/heard", lambda: app.state.heard)  # model and headers of each chat request

    @app.get("/cancelled")
    async def cancelled() -> int:
        return int(app.state.cancelled)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = app.state.last = await request.json()
        app.state.heard.append({"model": body["model"], "headers": dict(request.headers)})
        text = json.dumps(body["messages"])
        if "reject" in text:
            error = {"message": "too long", "type": "BadRequestError", "param": None, "code": 400}
            return JSONResponse({"error": error}, status_code=400)
        if "hang" in text:
            await _hang(app, request)
        if body.get("stream"):
            usage_asked = (body.get("stream_options") or {}).get("include_usage")
            events = _events(name, "break" in text, bool(usage_asked))
            return StreamingResponse(events, media_type="text/event-stream")
        message = {"role": "assistant", "content": "yes"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse(_completion(name, "chat.completion", [choice], USAGE))

    @app.post("/v1/completions")
    async def complete(request: Request) -> Any:
        app.state.last = await request.json()
        choice = {"index": 0, "text": " upon", "finish_reason": "stop"}
        return _completion(name, "text_completion", [choice], USAGE)

    _show_metrics(app, name)
    return app


def _show_metrics(app: FastAPI, name: str) -> None:
    @app.get("/metrics")
    async def metrics() -> Response:
        recorded = RECORDED.read_text().replace("shapes-llava", name)
        return Response(recorded, media_type="text/plain; version=0.0.4")


async def _hang(app: FastAPI, request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    app.state.cancelled += 1


async def _events(name: str, breaks: bool, usage: bool) -> AsyncIterator[str]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"content": "y"}]
    for delta in [*deltas, {"content": "es"}]:
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        yield _event(_completion(name, "chat.completion.chunk", [choice], None))
        await asyncio.sleep(0.01)
        if breaks and "role" not in delta:
            raise ConnectionResetError
    if usage:
        yield _event(_completion(name, "chat.completion.chunk", [], USAGE))
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def _completion(
    name: str, kind: str, choices: list[dict[str, Any]], usage: dict[str, int] | None
) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 1,
        "model": name,
        "choices": choices,
        "usage": usage,
    }


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    args = parser.parse_args()
    uvicorn.run(create_fake(args.name), host=args.host, port=args.port, log_level="critical")


if __name__ == "__main__":
    main()
