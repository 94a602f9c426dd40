# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors as RFC 9457 problem documents, wherever they come from."""

from __future__ import annotations

import http
import logging
import typing as t

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from .logs import request_id

log = logging.getLogger("app.problems")

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """Raise it anywhere below a route; `kind` becomes the problem's type."""

    def __init__(self, status: int, kind: str, detail: str, *, headers: dict[str, str] | None = None, **extra: t.Any) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.extra = extra


class Unavailable(Problem):
    """A server that an endpoint needs (`dependency`) cannot serve it now; whatever does not need it goes on."""

    def __init__(self, dependency: str, detail: str) -> None:
        super().__init__(503, f"{dependency}-unavailable", detail, headers={"Retry-After": "5"}, dependency=dependency)


def body(status: int, kind: str, detail: str, instance: str, **extra: t.Any) -> dict[str, t.Any]:
    return {
        "type": f"urn:platform:problem:{kind}" if kind else "about:blank",
        "title": kind.replace("-", " ").capitalize() if kind else http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
        "request_id": request_id.get(),
        **extra,
    }


def response(request: Request, status: int, kind: str, detail: str, headers: dict[str, str] | None = None, **extra: t.Any) -> JSONResponse:
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return JSONResponse(body(status, kind, detail, request.url.path, **extra), status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def on_problem(request: Request, exc: Problem) -> JSONResponse:
        return response(request, exc.status, exc.kind, exc.detail, exc.headers, **exc.extra)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, exc: HTTPException) -> JSONResponse:
        details = {404: f"There is nothing at {request.url.path}.", 405: f"{request.method} is not possible at {request.url.path}."}
        return response(request, exc.status_code, "", details.get(exc.status_code, str(exc.detail)), t.cast("dict[str, str] | None", exc.headers))

    @app.exception_handler(RequestValidationError)
    async def on_validation(request: Request, exc: RequestValidationError) -> JSONResponse:
        # the input itself is left out: it may be a password
        errors = [{"where": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in exc.errors()]
        detail = "; ".join(f"{e['where']}: {e['message']}" for e in errors)
        return response(request, 422, "invalid-request", detail, errors=errors)
