"""The page that a compression left in its checkpoint, for those whose key may see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter, Request, Response

from service.errors import ReportNotFoundError
from service.gateway.parameters import JobId, ModelName
from service.gateway.state import Gateway
from service.routing.policy import find_model

router = APIRouter()
PAGE = Path("report") / "index.html"  # as `compressor/report` writes it, which would load torch
MAX_BYTES = 32 * 1024 * 1024
_HEADERS = {
    # Opened by itself it runs nothing and loads nothing, whatever a checkpoint brought along.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_DOCUMENTED = {
    "response_class": Response,
    "responses": {200: {"content": {"text/html": {}}, "description": "The report, one page."}},
}


@router.get("/models/{name}/report", tags=["models"], **_DOCUMENTED)  # type: ignore[arg-type]
async def report_of_model(request: Request, name: ModelName) -> Response:
    """A compressed model's report: what was cut, spectra, accuracy, cost."""
    gateway: Gateway = request.app.state.gateway
    entry = find_model(gateway.snapshot, name)
    return await _page(entry.path, f"the model {name!r}")


@router.get("/compress/{job_id}/report", tags=["compression"], **_DOCUMENTED)  # type: ignore[arg-type]
async def report_of_job(request: Request, job_id: JobId) -> Response:
    """The report of the model that a job made."""
    gateway: Gateway = request.app.state.gateway
    record = await asyncio.to_thread(gateway.queue.get, job_id)
    entry = gateway.snapshot.models.get(record.name)
    if entry is None or entry.job != job_id:
        raise ReportNotFoundError(f"the job {job_id!r}")
    return await _page(entry.path, f"the job {job_id!r}")


async def _page(directory: str, what: str) -> Response:
    content = await asyncio.to_thread(_read, Path(directory) / PAGE)
    if content is None:
        raise ReportNotFoundError(what)
    return Response(content, media_type="text/html; charset=utf-8", headers=_HEADERS)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError:
        return None
