"""
`StandInControl`: the methods of Control as coroutines, for a stand-in that runs in another process.

Each method has the parameters, the result and the docstring of Control's method of the same name, from which
it is made. It sends its arguments to the control surface over HTTP (http_endpoint), and raises the same
ValueError.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, overload

import httpx
import msgspec

from sandbox.esaw.control.api import Control
from sandbox.servers.plain_http import plain_http

P = ParamSpec("P")
T = TypeVar("T")

REQUEST_TIMEOUT = 3600.0
"""Timeout for a response, in seconds: `callbacks_settled` waits until all retries of callbacks have ended."""


class ControlClient:
    """The connection to the control surface of the stand-in at `url`; an async context manager, or `close`
    it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = plain_http(
            base_url=f"{self.url}/_control/", timeout=httpx.Timeout(10, read=REQUEST_TIMEOUT)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, method: str, arguments: dict[str, Any]) -> bytes:
        """The JSON that Control's method of this name returns. Raises ValueError where the method does."""
        response = await self._http.post(method, content=msgspec.json.encode(arguments))
        if response.status_code == 400:
            raise ValueError(response.json()["error"])
        return response.raise_for_status().content


@overload
def _remote(
    method: Callable[Concatenate[Control, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[ControlClient, P], Coroutine[Any, Any, T]]: ...


@overload
def _remote(
    method: Callable[Concatenate[Control, P], T],
) -> Callable[Concatenate[ControlClient, P], Coroutine[Any, Any, T]]: ...


def _remote(method: Callable[..., Any]) -> Callable[..., Any]:
    """The coroutine function that calls this method of Control over HTTP."""
    signature = inspect.signature(method)
    result_type = typing.get_type_hints(method)["return"]

    @functools.wraps(method)
    async def call(client: ControlClient, *args: Any, **kwargs: Any) -> Any:
        _, *given = signature.bind(client, *args, **kwargs).arguments.items()
        arguments: dict[str, Any] = {}
        for name, value in given:
            is_keywords = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            arguments |= value if is_keywords else {name: value}
        return msgspec.json.decode(await client.call(method.__name__, arguments), type=result_type)

    return call


class StandInControl(ControlClient):
    """The methods of Control for the stand-in at `url`; an async context manager, or `close` it."""

    organization_id = _remote(Control.organization_id)
    add_user = _remote(Control.add_user)
    new_token = _remote(Control.new_token)
    revoke = _remote(Control.revoke)
    revocations = _remote(Control.revocations)
    set_active = _remote(Control.set_active)
    register_app = _remote(Control.register_app)
    withdraw_consent = _remote(Control.withdraw_consent)
    set_before_send_redirect = _remote(Control.set_before_send_redirect)
    add_draft = _remote(Control.add_draft)
    drafts = _remote(Control.drafts)
    draft_of = _remote(Control.draft_of)
    envelope_of = _remote(Control.envelope_of)
    envelopes_of = _remote(Control.envelopes_of)
    sends = _remote(Control.sends)
    add_envelope = _remote(Control.add_envelope)
    set_default_callbacks = _remote(Control.set_default_callbacks)
    set_callback_logins = _remote(Control.set_callback_logins)
    set_behaviour = _remote(Control.set_behaviour)
    open_workstep = _remote(Control.open_workstep)
    finish_workstep = _remote(Control.finish_workstep)
    complete = _remote(Control.complete)
    stall = _remote(Control.stall)
    reject = _remote(Control.reject)
    expire = _remote(Control.expire)
    cancel = _remote(Control.cancel)
    restart = _remote(Control.restart)
    delete = _remote(Control.delete)
    announce = _remote(Control.announce)
    repeat_callback = _remote(Control.repeat_callback)
    trigger_again = _remote(Control.trigger_again)
    callbacks_settled = _remote(Control.callbacks_settled)
    callbacks = _remote(Control.callbacks)
    fault = _remote(Control.fault)
    clear_faults = _remote(Control.clear_faults)
    requests = _remote(Control.requests)
    delete_calls = _remote(Control.delete_calls)
    clear_requests = _remote(Control.clear_requests)
    exists = _remote(Control.exists)
    status = _remote(Control.status)
    files = _remote(Control.files)
    expected_sha256 = _remote(Control.expected_sha256)
    authority_certificate = _remote(Control.authority_certificate)
