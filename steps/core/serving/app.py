"""The server's application: MLflow's scoring protocol, /docs for the model that answers, and /metrics."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from mlflow.version import VERSION
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from steps.core.process import waiting
from steps.core.serving import openapi
from steps.core.serving.followed_model import FollowedModel
from steps.core.serving.invocations import MODEL_URI, Invocations
from steps.core.serving.metrics import CONTENT_TYPE, Metrics
from steps.core.serving.refusals import error_body

JSON = "application/json"
# In which a thread that scores a large request lets the event loop have the interpreter; Python's default is ten times
# as long, and a small request beside a large one waits it several times.
SWITCH_SECONDS = 0.0005


def create(
    followed: FollowedModel,
    invocations: Invocations,
    metrics: Metrics,
    *,
    log_state: Callable[[], dict[str, Any]] | None,
    on_stop: Callable[[], None],
) -> FastAPI:
    """The application, which answers by what `followed` has at each request; `on_stop` is called after the last one."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        yield
        sys.setswitchinterval(before)
        await asyncio.to_thread(on_stop)

    app = FastAPI(redoc_url=None, lifespan=lifespan)

    async def ping(request: Request) -> Response:
        return answer(b"\n", media_type=JSON)

    async def health(request: Request) -> Response:
        log = {"log": log_state()} if log_state else {}
        return answer(orjson.dumps({**health_of(followed), **log}), media_type=JSON)

    async def version(request: Request) -> Response:
        return answer(VERSION, media_type=JSON)

    async def show_metrics(request: Request) -> Response:
        return answer(metrics.text(followed), media_type=CONTENT_TYPE)

    async def refuse(request: Request, error: Exception) -> Response:
        """A path or a method that there is not."""
        assert isinstance(error, HTTPException)
        body = error_body("ENDPOINT_NOT_FOUND", f"{request.method} {request.url.path}: {error.detail}")
        return answer(body, media_type=JSON, status=error.status_code, headers=error.headers)

    def answer(
        body: str | bytes, *, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        named = {**(headers or {}), MODEL_URI: followed.now.uri}
        return Response(body, status_code=status, media_type=media_type, headers=named)

    # Starlette's routes: FastAPI's own look at each request for parameters, which takes as long as a small model does.
    app.router.routes.insert(0, Route("/invocations", invocations.respond, methods=["POST"]))
    app.add_route("/ping", ping)
    app.add_route("/health", health)
    app.add_route("/version", version)
    app.add_route("/metrics", show_metrics)
    app.add_exception_handler(HTTPException, refuse)
    app.openapi = lambda: openapi.describe(followed.now)  # type: ignore[method-assign] # it follows the alias
    return app


def health_of(followed: FollowedModel) -> dict[str, object]:
    """What /health says; the server answers, so its status is 200 also where a newer version cannot be served."""
    problem = followed.problem
    if not problem and followed.seconds_since_read > waiting.limit_seconds():
        problem = f"{followed.uri} could not be read for {followed.seconds_since_read:.0f} s"
    return {
        "status": "degraded" if problem else "ok",
        "model": followed.now.uri,
        "follows": followed.uri if followed.alias else None,
        "seconds_since_alias_was_read": round(followed.seconds_since_read, 3) if followed.alias else None,
        "problem": problem or None,
    }
