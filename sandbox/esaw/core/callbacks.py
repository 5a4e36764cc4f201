"""
Callbacks: the GET requests that eSAW makes, with its placeholders, its patience and its history.

A delivery is tried until it is answered 2xx, up to 30 times at growing intervals; each attempt is counted in
one line of the envelope's history. That line is in an error state from the first failure until the success.
Redirects are not followed. When something is called, and what waits for it, is decided by lifecycle.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import quote

import aiohttp
from msgspec import Struct

from sandbox.esaw.core.behaviour import Behaviour
from sandbox.esaw.core.model import EnvelopeActivity, HistoryEntry, StoredEnvelope

RETRY_STEP: Final = timedelta(minutes=5)
"""The waits grow by this: 5, 10, 15 … minutes, 36 h in all."""
_PLACEHOLDER: Final = re.compile(r"##(\w+)##")


class CallbackKind(StrEnum):
    """Which of its URLs eSAW calls."""

    ENVELOPE = "Envelope"
    STATUS = "Status"
    WORKSTEP = "Workstep"
    AFTER_SEND = "AfterSend"


class CallbackAttempt(Struct, frozen=True, kw_only=True):
    """One GET of one callback."""

    envelope_id: str
    kind: CallbackKind
    action: str
    url: str
    attempt: int
    time: datetime
    status: int
    """0: no answer."""
    error: str = ""


class CallbackLogin(Struct, frozen=True, kw_only=True):
    """Basic authentication for the callback URLs that match; the first match in the list wins."""

    pattern: str
    """A regular expression, searched in the URL."""
    username: str
    password: str


@dataclass(slots=True)
class PendingCallback:
    """One callback in transit."""

    envelope: StoredEnvelope
    kind: CallbackKind
    action: str
    url: str
    event: HistoryEntry
    attempts: int = 0


@dataclass
class CallbackClient:
    """Makes the callbacks."""

    now: Callable[[], datetime]
    behaviour: Callable[[], Behaviour]
    logins: list[CallbackLogin] = field(default_factory=list)
    attempts_made: list[CallbackAttempt] = field(default_factory=list)
    _session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()

    async def call_until_accepted(self, pending: PendingCallback) -> bool:
        """Call until it is accepted, given up, or the envelope was deleted; whether it was accepted."""
        while pending.attempts < self.behaviour().callback_attempts:
            if pending.attempts > 0:
                await asyncio.sleep(self._pause_before(pending).total_seconds())
                if pending.envelope.deleted_at:
                    return False
            if await self.attempt(pending):
                return True
        return False

    async def attempt(self, pending: PendingCallback) -> bool:
        """Call once; whether it was accepted."""
        pending.attempts += 1
        status, error = await self._get(pending.url)
        is_accepted = 200 <= status < 300
        self.attempts_made.append(
            CallbackAttempt(
                envelope_id=pending.envelope.id,
                kind=pending.kind,
                action=pending.action,
                url=pending.url,
                attempt=pending.attempts,
                time=self.now(),
                status=status,
                error=error,
            )
        )
        self._record_attempt(pending, is_accepted, error)
        return is_accepted

    async def _get(self, url: str) -> tuple[int, str]:
        """The status and what is wrong with it; 0 for no answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            )
        limit = aiohttp.ClientTimeout(total=self.behaviour().callback_timeout)
        try:
            async with self._session.get(
                url, headers=self._login(url), allow_redirects=False, timeout=limit
            ) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            return 0, f"{type(exc).__name__}: no answer"
        if 200 <= response.status < 300:
            return response.status, ""
        return (
            response.status,
            f"Response status code does not indicate success:{response.status} ({response.reason})",
        )

    def _login(self, url: str) -> Mapping[str, str]:
        login = next((each for each in self.logins if re.search(each.pattern, url)), None)
        return {"Authorization": aiohttp.encode_basic_auth(login.username, login.password)} if login else {}

    def _pause_before(self, pending: PendingCallback) -> timedelta:
        return RETRY_STEP * pending.attempts * self.behaviour().callback_time_scale

    def record_failure(self, event: HistoryEntry, attempts: int, remaining_attempts: int) -> None:
        """Put the line of a callback into the state after this many attempts, all of which failed."""
        event.attempt, event.remaining_attempts = attempts, remaining_attempts
        event.in_error = True
        event.completed = remaining_attempts == 0 and self.behaviour().given_up_is_completed
        event.completed_at = None

    def _record_attempt(self, pending: PendingCallback, is_accepted: bool, error: str) -> None:
        event = pending.event
        remaining = max(0, self.behaviour().callback_attempts - pending.attempts)
        if is_accepted:
            event.attempt, event.remaining_attempts = pending.attempts, remaining
            event.in_error, event.completed, event.completed_at = False, True, self.now()
        else:
            self.record_failure(event, pending.attempts, remaining)
        has_next = not is_accepted and remaining > 0
        event.next_attempt_at = self.now() + self._pause_before(pending) if has_next else None
        event.context = f"{pending.url} {error}".strip()


def expand_placeholders(url: str, values: Mapping[str, str]) -> str:
    """The URL with its placeholders replaced, percent-encoded; one that is not offered stays as it is."""
    return _PLACEHOLDER.sub(
        lambda match: quote(values[match[1]], safe="") if match[1] in values else match[0], url
    )


def envelope_values(envelope: StoredEnvelope, action: str) -> dict[str, str]:
    """Placeholders of envelope and status callbacks."""
    return {"EnvelopeId": envelope.id, "Action": action}


def workstep_values(
    envelope: StoredEnvelope, activity: EnvelopeActivity, event_type: str, now: datetime
) -> dict[str, str]:
    """Placeholders of workstep callbacks."""
    return {
        "WorkstepId": activity.workstep_id,
        "EventType": event_type,
        "Source": "internal",
        "Time": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "Description": f"{event_type} by {activity.recipient.given_name} {activity.recipient.surname}",
        "RecipientEmail": activity.recipient.email,
        "EnvelopeId": envelope.id,
        "RecipientOrder": str(envelope.activities.index(activity) + 1),
    }
