"""Errors that a client receives, in the format of OpenAI."""

import json
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from topeng.errors import TopengError

KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    400: {"description": "A value breaks a rule. `error.param` names it."},
    401: {"description": "The API key is missing or wrong."},
    404: {"description": "There is no such model."},
    413: {"description": "The body is larger than the limit of the server."},
    429: {"description": "The queue is full. `Retry-After` says in how many seconds to try again."},
    500: {"description": "A step of the decoder failed."},
    503: {"description": "The server is shutting down."},
    504: {"description": "The answer took longer than the server allows."},
}


class ApiError(Exception):
    """An error to send to the client."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry_after = status, message, param, code, retry_after

    def body(self) -> dict[str, Any]:
        default = "invalid_request_error" if self.status < 500 else "server_error"
        kind = KINDS.get(self.status, default)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return as_json(self.body(), self.status, headers)


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The response in ASCII, because a text may contain unpaired surrogates, which UTF-8 cannot encode."""
    return Response(json.dumps(value), status, headers, media_type="application/json")


def install(app: FastAPI) -> None:
    """Gives every error of an app this format."""

    def own(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error.response()

    def of_topeng(_: Request, error: Exception) -> Response:
        return from_topeng(error).response()

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return ApiError(400, f"{place or 'the body'}: {first['msg']}", place or None).response()

    def of_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = ApiError(error.status_code, str(error.detail)).response()
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(ApiError, own)
    app.add_exception_handler(TopengError, of_topeng)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_http)


def from_topeng(error: Exception) -> ApiError:
    """An error of Topeng, whose message already names the value, the rule and the remedy."""
    return ApiError(400, " ".join(str(error).split()), getattr(error, "place", None))
