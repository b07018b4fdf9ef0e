"""One request to /invocations: its body within the limits, its answer by one version of the model, what is counted.

A small JSON body is scored in the event loop, as a thread takes longer than the model. Anything else is scored in one
of SCORING_THREADS, so that small requests go on. More than LARGE_AT_ONCE large bodies are refused with 503.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from steps.core.serving import request_body
from steps.core.serving.followed_model import FollowedModel
from steps.core.serving.metrics import Metrics
from steps.core.serving.refusals import Refused, error_body
from steps.core.serving.scored_rows import Recorder
from steps.core.serving.served_model import Scored, ServedModel

logger = logging.getLogger(__name__)

INLINE_BYTES = 16 * 1024  # of a body that is scored in the event loop: a millisecond or two
SCORING_THREADS = 2  # XGBoost uses all cores for one large request
LARGE_AT_ONCE = 16  # bodies of more than INLINE_BYTES in memory
DRAINED = 4  # times the limit, of a body that is too large: a client that still sends would not see the answer
REQUEST_ID_CHARACTERS = 128
MODEL_URI, REQUEST_ID = "X-Model-Uri", "X-Request-Id"  # headers


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one request; `seconds` from its first byte to its answer."""

    body_bytes: int
    rows: int
    seconds: float


class Invocations:
    """Answers requests by the version that `followed` has when they begin."""

    def __init__(
        self, followed: FollowedModel, *, limits: Limits, metrics: Metrics, recorder: Recorder | None = None
    ) -> None:
        self._followed = followed
        self._limits = limits
        self._metrics = metrics
        self._recorder = recorder
        self._large = 0
        self._threads = ThreadPoolExecutor(SCORING_THREADS, thread_name_prefix="scoring")

    async def respond(self, request: Request) -> Response:
        began, model = time.perf_counter(), self._followed.now
        headers = {MODEL_URI: model.uri, REQUEST_ID: request_id(request)}
        rows, kind = 0, ""
        try:
            scored, body = await self._scored(request, model)
            status, rows = 200, len(scored)
            if self._recorder:
                await self._recorder.add(scored, request_id=headers[REQUEST_ID])
        except Refused as refused:
            status, body, kind = refused.status, refused.body, refused.kind
        except ClientDisconnect:
            status, body, kind = 499, b"", "disconnected"  # nginx's number; nobody reads it
        except Exception:
            logger.exception("a request failed")
            status, body, kind = 500, error_body("INTERNAL_ERROR", "the server failed; its log says why"), "internal"
        if status == 503:
            headers["Retry-After"] = "1"
        self._metrics.count(status, seconds=time.perf_counter() - began, rows=rows, kind=kind)
        return Response(body, status_code=status, headers=headers, media_type="application/json")

    def close(self) -> None:
        """Give up what has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _scored(self, request: Request, model: ServedModel) -> tuple[Scored, bytes]:
        """What was scored, and the body of the answer."""
        compression = request.headers.get("content-encoding")
        kind = request_body.media_type(request.headers.get("content-type"), compression=compression)
        is_read = False
        with contextlib.ExitStack() as large:
            try:
                async with asyncio.timeout(self._limits.seconds):
                    body = await self._body(request, large)
                    is_read = True
                    return await self._score(model, body, kind)
            except TimeoutError as err:
                if not is_read:
                    raise Refused(408, "timeout", f"the body did not arrive within {self._limits.seconds} s") from err
                raise Refused(
                    504, "timeout", f"the answer takes more than {self._limits.seconds} s; send fewer rows at once"
                ) from err

    async def _body(self, request: Request, large: contextlib.ExitStack) -> bytes:
        limit, size = self._limits.body_bytes, 0
        chunks: list[bytes] = []
        length = request.headers.get("content-length", "")
        waits = "expect" in request.headers  # for the server to say that it may send the body
        if waits and length.isdecimal() and int(length) > limit:
            raise _too_large(limit)
        async for chunk in request.stream():
            if size <= INLINE_BYTES < size + len(chunk):
                large.enter_context(self._one_more_large())
            size += len(chunk)
            if size > limit:
                chunks.clear()
            else:
                chunks.append(chunk)
            if size > DRAINED * limit:
                break
        if size > limit:
            raise _too_large(limit)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _score(self, model: ServedModel, body: bytes, kind: str) -> tuple[Scored, bytes]:
        is_small = len(body) <= INLINE_BYTES
        if is_small and (scored := model.score_plain(body, kind, row_limit=self._limits.rows)):
            return scored, scored.body

        def score() -> tuple[Scored, bytes]:
            scored = model.score(body, kind, row_limit=self._limits.rows)
            return scored, scored.body

        return await asyncio.get_running_loop().run_in_executor(self._threads, score)

    @contextlib.contextmanager
    def _one_more_large(self) -> Iterator[None]:
        """A block in which one more request holds much memory."""
        if self._large >= LARGE_AT_ONCE:
            raise Refused(503, "busy", f"{LARGE_AT_ONCE} large requests are at work; try it again")
        self._large += 1
        try:
            yield
        finally:
            self._large -= 1


def request_id(request: Request) -> str:
    """The one that the client gave, else a new one."""
    given = request.headers.get(REQUEST_ID, "")
    return given if 0 < len(given) <= REQUEST_ID_CHARACTERS and given.isprintable() else secrets.token_hex(16)


def _too_large(limit: int) -> Refused:
    return Refused(413, "too large", f"the body has more than {limit} bytes")
