"""
`StandInControl`: the methods of Control as coroutines, for a stand-in that runs in another process.

Each does what the method of the same name does there, and raises the same ValueError.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx
import msgspec

from sandbox.esaw.core.behaviour import Behaviour
from sandbox.esaw.core.callbacks import CallbackAttempt, CallbackLogin
from sandbox.esaw.core.faults import FaultOptions
from sandbox.esaw.core.model import (
    EASY_LOGIN,
    DraftListing,
    EnvelopeOptions,
    EnvelopeStatus,
    FileListing,
    OAuthApp,
    Recipient,
    User,
)
from sandbox.esaw.core.recorder import DeleteCall, RecordedRequest, SendCall

T = TypeVar("T")

REQUEST_TIMEOUT = 3600.0
"""Seconds that an answer may take: `callbacks_settled` waits as long as the retries need."""


class StandInControl:
    """The remote control of the stand-in at `url`; use as an async context manager, or `close` it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=f"{self.url}/_control/", timeout=httpx.Timeout(10, read=REQUEST_TIMEOUT), trust_env=False
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

    async def organization_id(self) -> str:
        """See Control."""
        return await self._call(str, "organization_id")

    async def add_user(
        self,
        *,
        email: str,
        given_name: str,
        surname: str,
        team: str = "",
        may_see_history: bool = True,
        password: str = EASY_LOGIN,
    ) -> User:
        """See Control."""
        return await self._call(
            User,
            "add_user",
            email=email,
            given_name=given_name,
            surname=surname,
            team=team,
            may_see_history=may_see_history,
            password=password,
        )

    async def new_token(self, user: User) -> str:
        """See Control."""
        return await self._call(str, "new_token", user=user)

    async def revoke(self, user: User, token: str | None = None) -> None:
        """See Control."""
        await self._do("revoke", user=user, token=token)

    async def set_active(self, user: User, *, active: bool) -> None:
        """See Control."""
        await self._do("set_active", user=user, active=active)

    async def register_app(self, *, name: str, redirect_uris: Sequence[str]) -> OAuthApp:
        """See Control."""
        return await self._call(OAuthApp, "register_app", name=name, redirect_uris=redirect_uris)

    async def withdraw_consent(self, user: User, client_id: str) -> None:
        """See Control."""
        await self._do("withdraw_consent", user=user, client_id=client_id)

    async def set_before_send_redirect(self, url: str | None) -> None:
        """See Control."""
        await self._do("set_before_send_redirect", url=url)

    async def add_draft(
        self,
        *,
        owner: User,
        name: str = "Contract",
        recipients: Sequence[Recipient] = (Recipient(),),
        metadata: str | None = None,
    ) -> str:
        """See Control."""
        return await self._call(
            str, "add_draft", owner=owner, name=name, recipients=recipients, metadata=metadata
        )

    async def drafts(self, user: User) -> list[DraftListing]:
        """See Control."""
        return await self._call(list[DraftListing], "drafts", user=user)

    async def draft_of(self, envelope_id: str) -> str | None:
        """See Control."""
        return await self._call_optional(str, "draft_of", envelope_id=envelope_id)

    async def envelope_of(self, draft_id: str) -> str | None:
        """See Control."""
        return await self._call_optional(str, "envelope_of", draft_id=draft_id)

    async def sends(self, draft_id: str) -> list[SendCall]:
        """See Control."""
        return await self._call(list[SendCall], "sends", draft_id=draft_id)

    async def add_envelope(self, *, sender: User, **options: Unpack[EnvelopeOptions]) -> str:
        """See Control."""
        return await self._call(str, "add_envelope", sender=sender, **options)

    async def set_default_callbacks(self, *, completed: str | None, status_change: str | None) -> None:
        """See Control."""
        await self._do("set_default_callbacks", completed=completed, status_change=status_change)

    async def set_callback_logins(self, logins: Sequence[CallbackLogin]) -> None:
        """See Control."""
        await self._do("set_callback_logins", logins=logins)

    async def set_behaviour(self, behaviour: Behaviour) -> None:
        """See Control."""
        await self._do("set_behaviour", behaviour=behaviour)

    async def open_workstep(self, envelope_id: str) -> None:
        """See Control."""
        await self._do("open_workstep", envelope_id=envelope_id)

    async def finish_workstep(self, envelope_id: str) -> None:
        """See Control."""
        await self._do("finish_workstep", envelope_id=envelope_id)

    async def complete(self, envelope_id: str) -> None:
        """See Control."""
        await self._do("complete", envelope_id=envelope_id)

    async def reject(self, envelope_id: str, reason: str = "Not as agreed.") -> None:
        """See Control."""
        await self._do("reject", envelope_id=envelope_id, reason=reason)

    async def expire(self, envelope_id: str) -> None:
        """See Control."""
        await self._do("expire", envelope_id=envelope_id)

    async def cancel(self, envelope_id: str) -> None:
        """See Control."""
        await self._do("cancel", envelope_id=envelope_id)

    async def restart(self, envelope_id: str) -> None:
        """See Control."""
        await self._do("restart", envelope_id=envelope_id)

    async def delete(self, envelope_id: str) -> None:
        """See Control."""
        await self._do("delete", envelope_id=envelope_id)

    async def announce(self, envelope_id: str, action: str) -> None:
        """See Control."""
        await self._do("announce", envelope_id=envelope_id, action=action)

    async def repeat_callback(self, envelope_id: str, times: int = 1) -> None:
        """See Control."""
        await self._do("repeat_callback", envelope_id=envelope_id, times=times)

    async def trigger_again(self, envelope_id: str) -> None:
        """See Control."""
        await self._do("trigger_again", envelope_id=envelope_id)

    async def callbacks_settled(self) -> None:
        """See Control."""
        await self._do("callbacks_settled")

    async def callbacks(self, envelope_id: str | None = None) -> list[CallbackAttempt]:
        """See Control."""
        return await self._call(list[CallbackAttempt], "callbacks", envelope_id=envelope_id)

    async def fault(self, operation: str, **options: Unpack[FaultOptions]) -> None:
        """See Control."""
        await self._do("fault", operation=operation, **options)

    async def clear_faults(self, operation: str | None = None) -> None:
        """See Control."""
        await self._do("clear_faults", operation=operation)

    async def requests(self, operation: str | None = None, id: str | None = None) -> list[RecordedRequest]:  # noqa: A002
        """See Control."""
        return await self._call(list[RecordedRequest], "requests", operation=operation, id=id)

    async def delete_calls(self, envelope_id: str) -> list[DeleteCall]:
        """See Control."""
        return await self._call(list[DeleteCall], "delete_calls", envelope_id=envelope_id)

    async def clear_requests(self) -> None:
        """See Control."""
        await self._do("clear_requests")

    async def exists(self, envelope_id: str) -> bool:
        """See Control."""
        return await self._call(bool, "exists", envelope_id=envelope_id)

    async def status(self, envelope_id: str) -> EnvelopeStatus:
        """See Control."""
        return await self._call(EnvelopeStatus, "status", envelope_id=envelope_id)

    async def files(self, envelope_id: str) -> list[FileListing]:
        """See Control."""
        return await self._call(list[FileListing], "files", envelope_id=envelope_id)

    async def expected_sha256(self, file_id: str) -> str:
        """See Control."""
        return await self._call(str, "expected_sha256", file_id=file_id)

    async def authority_certificate(self) -> str:
        """See Control."""
        return await self._call(str, "authority_certificate")

    async def _call(self, kind: type[T], method: str, **arguments: Any) -> T:
        return msgspec.json.decode(await self._post(method, arguments), type=kind)

    async def _call_optional(self, kind: type[T], method: str, **arguments: Any) -> T | None:
        body = await self._post(method, arguments)
        return None if body == b"null" else msgspec.json.decode(body, type=kind)

    async def _do(self, method: str, **arguments: Any) -> None:
        await self._post(method, arguments)

    async def _post(self, method: str, arguments: dict[str, Any]) -> bytes:
        response = await self._http.post(method, content=msgspec.json.encode(arguments))
        if response.status_code == 400:
            raise ValueError(response.json()["error"])
        return response.raise_for_status().content
