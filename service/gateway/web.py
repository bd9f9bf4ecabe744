"""`/ui/`: the web page's files, as they lie in `service/web`. Public; what they show is not."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from service.settings import Settings

INDEX, FRAME = "index.html", "report.html"
PAGES = frozenset({"", "compare", "playground", "compress", "models"})
"""Paths under `/ui/` that the one document serves."""
_SERVED = frozenset({".css", ".html", ".js", ".svg"})
_EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Kept, but asked for again by its hash each time: an upgrade is seen at once.
    "cache-control": "no-cache",
}
_PAGE = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
# A checkpoint's report is shown in a frame of no origin: it cannot reach the page, its key or the API.
_FRAME = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts"
    ),
    "x-frame-options": "SAMEORIGIN",
}


@dataclass(frozen=True)
class Asset:
    """A file as it is served."""

    content: bytes
    media_type: str
    etag: str
    headers: dict[str, str]


def read_assets(folder: Traversable) -> dict[str, Asset]:
    """Every file of a page that is served, by its path in the folder."""
    found: dict[str, Asset] = {}
    for each in folder.iterdir():
        if each.is_dir():
            inner = read_assets(each)
            found |= {f"{each.name}/{path}": asset for path, asset in inner.items()}
        elif "." + each.name.rpartition(".")[2] in _SERVED:
            found[each.name] = _asset(each.name, each.read_bytes())
    return found


def _asset(name: str, content: bytes) -> Asset:
    kind = mimetypes.types_map[f".{name.rpartition('.')[2]}"]
    return Asset(
        content,
        f"{kind}; charset=utf-8",
        f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        _EVERYWHERE | (_FRAME if name == FRAME else _PAGE),
    )


def install(app: FastAPI, settings: Settings) -> None:
    """Serve the page under `/ui/`, and lead there from `/`."""
    assets = read_assets(files("service").joinpath("web"))
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @router.get("/ui")
    async def root() -> Response:
        return RedirectResponse("/ui/", headers=_EVERYWHERE)

    @router.get("/ui/config.json")
    async def config() -> Response:
        return JSONResponse(public_config(settings), headers=_EVERYWHERE)

    @router.api_route("/ui/{path:path}", methods=["GET", "HEAD"])
    async def asset(request: Request, path: str) -> Response:
        return answer(assets, path, request.headers.get("if-none-match"))

    app.include_router(router)


def answer(assets: dict[str, Asset], path: str, known: str | None) -> Response:
    """A file; nothing of it where the browser has it already.

    Raises:
        HTTPException: there is no such file.
    """
    found = assets.get(INDEX if path in PAGES else path)
    if found is None:
        raise HTTPException(404, "there is no such page")
    headers = found.headers | {"etag": found.etag}
    if known is not None and found.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


def public_config(settings: Settings) -> dict[str, object]:
    """What the page needs before anyone signed in."""
    return {
        "version": version("infoprune"),
        "auth": settings.auth,
        "max_body_bytes": settings.max_body_bytes,
        "max_image_bytes": settings.max_image_bytes,
    }
