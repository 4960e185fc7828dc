"""`review serve`: the review page, for people on this machine only.

The address holds a random token, other hosts and origins are refused, the page may load nothing
but itself, and what it shows of the data is only ever text.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from llm_relabel.errors import JobError, RelabelError
from llm_relabel.review.opening import Review, kinds_of, open_review
from llm_relabel.review.session import AnsweredElsewhere, Session

HOST = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
        "connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
LONGEST_BODY = 1 << 20
_PAGE = Path(__file__).parent / "page"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def serve(
    path: Path,
    reviewer: str,
    port: int,
    tell: Callable[[str], None],
    *,
    as_judge: bool | None = None,
) -> None:
    """Serve the page for one run until interrupted; `tell` is given its address in words.

    `as_judge` chooses between the judge's questions and the spot-checks; see `open_review`.

    `port` 0 takes a free one. Raises JobError where the port is taken, RunError where there is
    nothing to review.
    """
    review = open_review(path, as_judge)
    session = Session(review, reviewer)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise JobError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); name another with "
                "--port, or leave it out"
            ) from error
        # Before the address is told: whoever is quick waits, and is not refused.
        listening.listen()
        bound = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        done = session.next()
        tell(
            f"{_served(review)}\n"
            f"{done['done']:,} of {done['total']:,} items are answered by {session.reviewer}.\n"
            f"Review them at http://{HOST}:{bound}/{token}/\nCtrl-C ends; every answer is kept."
        )
        asyncio.run(_until_stopped(review_app(session, token, bound), listening))


def _served(review: Review) -> str:
    """Which of the two is served, and that there is the other one, too."""
    kinds = kinds_of(review.run.path)
    if review.as_judge:
        more = " (--spot-checks serves the spot-checks)" if kinds.spot_checks else ""
        return f"Questions of the judge `people`: the answers decide their items{more}."
    more = " (--judge serves the judge's questions)" if kinds.questions else ""
    return f"Blind spot-checks{more}."


def review_app(session: Session, token: str, port: int) -> web.Application:
    """The web application of one session, at `/TOKEN/`."""
    pages = _Pages(session)
    app = web.Application(middlewares=[_guard(port)], client_max_size=LONGEST_BODY)
    app.add_routes(
        [
            web.get("/favicon.ico", pages.nothing),
            web.get(f"/{token}/", pages.page),
            web.get(f"/{token}/{{name:(review\\.(css|js)|(spans|boxes)\\.js)}}", pages.page),
            web.get(f"/{token}/setup", pages.setup),
            web.get(f"/{token}/picture/{{id:.+}}", pages.picture),
            web.post(f"/{token}/next", pages.next),
            web.post(f"/{token}/answer", pages.answer),
            web.post(f"/{token}/undo", pages.undo),
        ]
    )
    return app


class _Pages:
    """The answers to requests. Journals are written in threads: the disk may be slow."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def page(self, request: web.Request) -> web.Response:
        path = _PAGE / request.match_info.get("name", "review.html")
        return web.Response(
            body=path.read_bytes(), content_type=_KINDS[path.suffix], charset="utf-8"
        )

    async def nothing(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.Response(status=204)  # browsers ask for an icon as soon as pictures are allowed

    async def picture(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(self._session.picture, request.match_info["id"])
        return web.Response(body=found.data, content_type=found.media_type)

    async def setup(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's form
        return web.json_response(self._session.setup())

    async def next(self, request: web.Request) -> web.Response:
        said = await _object(request)
        return web.json_response(await self._next(said, said.get("keep")))

    async def answer(self, request: web.Request) -> web.Response:
        said = await _object(request)
        try:
            await asyncio.to_thread(self._session.answer, said)
        except AnsweredElsewhere:
            return web.json_response(await self._next(said), status=409)
        return web.json_response(await self._next(said))

    async def undo(self, request: web.Request) -> web.Response:
        said = await _object(request)
        undone = await asyncio.to_thread(self._session.undo)
        if undone is None:
            return web.json_response(await self._next(said, said.get("keep")))
        return web.json_response(undone)

    async def _next(self, said: dict[str, Any], keep: Any = None) -> dict[str, Any]:
        skipped = said.get("skipped")
        skipped = (
            {each for each in skipped if isinstance(each, str)}
            if isinstance(skipped, list)
            else set()
        )
        return await asyncio.to_thread(self._session.next, skipped, keep)


def _guard(port: int) -> Any:
    """Refuses what does not come from our own page, and puts the policy on every answer."""
    hosts = (f"{HOST}:{port}", f"localhost:{port}")

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        try:
            # Another name for this address is how a foreign page would get in (DNS rebinding).
            if request.host not in hosts:
                raise web.HTTPForbidden(text="this page answers on this machine only")
            if origin is not None and origin.removeprefix("http://") not in hosts:
                raise web.HTTPForbidden(text="this page answers no other page")
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        except RelabelError as error:
            response = web.json_response({"error": str(error)}, status=400)
        response.headers.update(HEADERS)
        return response

    return guard


async def _object(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request. Other content types are what a foreign form could send."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="JSON is expected")
    try:
        said = json.loads(await request.text())
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise web.HTTPBadRequest(text="a JSON object is expected")
    return said


async def _until_stopped(app: web.Application, listening: socket.socket) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
