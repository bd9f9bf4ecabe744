"""`/docs`: the HTTP interface as a page to try things on, Swagger UI; nothing is from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, FastAPI, Request, Response

from service.gateway.web import INDEX, answer, read_assets


def install(app: FastAPI) -> None:
    """Serve the page at `/docs`, its files below, under the web page's own policy."""
    assets = read_assets(files(__name__))
    router = APIRouter(include_in_schema=False)

    @router.api_route("/docs", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return answer(assets, INDEX, request.headers.get("if-none-match"))

    @router.api_route("/docs/{path:path}", methods=["GET", "HEAD"])
    async def asset(request: Request, path: str) -> Response:
        return answer(assets, path, request.headers.get("if-none-match"))

    app.include_router(router)
