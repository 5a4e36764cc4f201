"""
Clients and servers of the stand-in in these tests: a user's HTTP client, and a receiver of its callbacks.
"""

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

import httpx
from aiohttp import web

from sandbox.esaw import StandIn, User


def anna(esaw: StandIn, **more: Any) -> User:
    return esaw.add_user(email="anna@example.com", given_name="Anna", surname="Kofler", **more)


def bruno(esaw: StandIn, **more: Any) -> User:
    return esaw.add_user(email="bruno@example.com", given_name="Bruno", surname="Rossi", **more)


def client_of(esaw: StandIn, token: User | str) -> httpx.AsyncClient:
    """A client of REST v6 with this user's token, or this one."""
    return httpx.AsyncClient(
        base_url=f"{esaw.url}/Api/v6/",
        headers={"ApiToken": token if isinstance(token, str) else token.token},
        timeout=10,
        trust_env=False,
        verify=False,  # plain HTTP: no authorities to read
    )


class Receiver:
    """Takes callbacks: answers these statuses one after the other, then 200; `look` runs inside each
    request."""

    def __init__(
        self, answers: Iterable[int] = (), look: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.seen: list[web.Request] = []
        self.url = ""
        self._answers = iter(answers)
        self._look = look

    @property
    def actions(self) -> list[str]:
        return [request.query.get("action", "") for request in self.seen]

    def template(self, name: str = "cb") -> str:
        return f"{self.url}/{name}?envelope=##EnvelopeId##&action=##Action##"

    async def _take(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        if self._look:
            await self._look()
        status = next(self._answers, 200)
        return web.Response(status=status, headers={"Location": "/elsewhere"} if 300 <= status < 400 else {})

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{rest:.*}", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
