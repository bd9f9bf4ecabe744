"""The one place where errors become HTTP: OpenAI's shape, one sentence, the right status."""

from __future__ import annotations

import math
from http import HTTPStatus

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from compressor.errors import CompressorError
from service.errors import InvalidRequestError, ServiceError

log = structlog.get_logger()


def error_body(error: ServiceError) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`, as OpenAI's clients expect."""
    # Half a surrogate pair, quoted from a request, must not become an error of its own.
    message = str(error).encode("utf-8", "replace").decode()
    content = {
        "message": message,
        "type": error.type,
        "param": getattr(error, "param", None),
        "code": error.code,
    }
    return msgspec.json.encode({"error": content})


def error_headers(error: ServiceError) -> list[tuple[bytes, bytes]]:
    """Content type, and when to try again."""
    headers = [(b"content-type", b"application/json")]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def error_response(error: ServiceError) -> Response:
    """The same for an endpoint of FastAPI's."""
    headers = {key.decode(): value.decode() for key, value in error_headers(error)}
    return Response(error_body(error), status_code=error.status, headers=headers)


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(ServiceError)
    async def _service(_: Request, error: ServiceError) -> Response:
        return error_response(error)

    @app.exception_handler(CompressorError)
    async def _compressor(_: Request, error: CompressorError) -> Response:
        # Only the recipe is judged in the gateway; a model's faults appear in its job.
        return error_response(InvalidRequestError(str(error), code="invalid_recipe"))

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        if first["type"] == "extra_forbidden":
            return error_response(InvalidRequestError(f"There is no field {where!r}; see /docs."))
        return error_response(InvalidRequestError(f"{where or 'The request'}: {first['msg']}."))

    @app.exception_handler(RecursionError)
    async def _deep(_: Request, error: RecursionError) -> Response:
        del error  # the decoder's: nothing of ours recurses over what a client sends
        return error_response(
            InvalidRequestError("The body is nested too deeply.", code="invalid_json")
        )

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        sentence = f"{request.method} {request.url.path}: {error.detail}."
        response = error_response(InvalidRequestError(sentence, code="not_found"))
        response.status_code = error.status_code
        return response

    @app.exception_handler(ClientDisconnect)
    async def _gone(_: Request, error: ClientDisconnect) -> JSONResponse:
        del error
        return JSONResponse(None, status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        log.error("unexpected error", path=request.url.path, exc_info=error)
        return error_response(ServiceError("The gateway failed unexpectedly; its log says why."))
