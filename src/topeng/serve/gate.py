"""Checks before the routes: API keys, and the size of bodies. Also counts requests. Plain ASGI, to allow streams."""

import hmac
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from topeng.serve.faults import ApiError
from topeng.serve.metrics import Metrics


class Gate:
    """Passes a request on, or answers with an error."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], largest_body: int, metrics: Metrics) -> None:
        """
        Args:
            keys: accepted keys. If there are none, no key is needed.
            largest_body: largest size of a body in bytes.
        """
        self.app, self.keys, self.largest_body, self.metrics = app, list(keys), largest_body, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")  # unknown paths would each become a label
                path = getattr(route, "path", "other")
                self.metrics.count("topeng_requests_total", path=path, status=str(message["status"]))
            await send(message)

        try:
            if scope["path"].startswith("/v1/") or scope["path"] == "/metrics":
                self._check_key(dict(scope["headers"]).get(b"authorization", b""))
            if scope["method"] in ("POST", "PUT", "PATCH"):
                receive = await self._whole_body(scope, receive)
        except ApiError as error:
            await error.response()(scope, receive, counted)
            return
        await self.app(scope, receive, counted)

    def _check_key(self, authorization: bytes) -> None:
        """Compares keys in constant time."""
        given = authorization.removeprefix(b"Bearer ")
        fits = [hmac.compare_digest(given, key.encode()) for key in self.keys]
        if self.keys and not any(fits):
            raise ApiError(
                401,
                "the API key is missing or wrong. Send the header Authorization: Bearer KEY.",
                code="invalid_api_key",
            )

    async def _whole_body(self, scope: Scope, receive: Receive) -> Receive:
        """Reads the body up to the limit, and returns a `receive` that replays it."""
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.largest_body:
            raise self._too_large()
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.largest_body:
                raise self._too_large()
        read = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def again() -> Message:
            return next(read, None) or await receive()

        return again

    def _too_large(self) -> ApiError:
        message = f"the body is larger than {self.largest_body} bytes, the limit of this server. Send less."
        return ApiError(413, message, code="body_too_large")
