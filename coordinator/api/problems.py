"""Errors over HTTP: RFC 9457 problem documents with a stable code each, pages for browsers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import Response

logger = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "https://deai.dev/problems/"
RETRY_AFTER: Final = "2"
"""Seconds after which an index that cannot be read is asked again."""
_FOR_PROGRAMS: Final = ("/api/", "/static/", "/health", "/ready")
_CODES: Final = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    414: "query_too_long",
    503: "unavailable",
}


class Problem(Exception):
    """An answer other than success; `code` is stable, `detail` is for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


def problem(
    status: int, code: str, detail: str, errors: list[dict[str, str]] | None = None
) -> Response:
    """The response of an error."""
    body: dict[str, Any] = {
        "type": _TYPE + code,
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    headers = {"cache-control": "no-store"}
    if status == 503:
        headers["retry-after"] = RETRY_AFTER
    return Response(msgspec.json.encode(body), status, headers, MEDIA_TYPE)


Page = Callable[[int, str, str], Response]
"""The page that says a status, a title and a sentence."""


def install(app: FastAPI, page: Page) -> None:
    """Answer every error as a problem document, or as a `page` where people look at pages."""

    def answer(request: Request, status: int, code: str, detail: str) -> Response:
        if not _is_for_people(request):
            return problem(status, code, detail)
        made = page(status, code.replace("_", " ").capitalize(), detail)
        made.headers["vary"] = "accept"
        if status == 503:
            made.headers["retry-after"] = RETRY_AFTER
        return made

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return answer(request, error.status, error.code, error.detail)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "http_error")
        detail = str(error.detail)
        if error.status_code == 404:
            detail = f"There is nothing at {request.url.path}"
        made = answer(request, error.status_code, code, detail)
        if error.headers:
            made.headers.update(error.headers)
        return made

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        found = [
            {"field": ".".join(str(part) for part in one["loc"][1:]), "message": one["msg"]}
            for one in error.errors()[:10]
        ]
        detail = "; ".join(f"{one['field']}: {one['message']}" for one in found)
        if _is_for_people(request):
            return answer(request, 400, "bad_request", detail)
        return problem(400, "bad_request", detail, found)

    @app.exception_handler(SQLAlchemyError)
    async def _store(request: Request, error: SQLAlchemyError) -> Response:
        logger.error("the store did not answer", exc_info=error)
        return answer(request, 503, "unavailable", "the index cannot be read right now")


def _is_for_people(request: Request) -> bool:
    """Whether a browser asks for what is no part of the API."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(
        _FOR_PROGRAMS
    )
