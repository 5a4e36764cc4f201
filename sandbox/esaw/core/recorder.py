"""
The recorder: each request, its user, its time and its result.

It lets a test ask "was delete called, when, how often, and what had been downloaded before". A token is never
kept: only the first digits of its hash, and its user; nor is anything of a query or a body, where codes and
secrets are.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct


class RecordedRequest(Struct, kw_only=True):
    """One request, from its arrival on (the fields with a default are filled in as it is answered)."""

    number: int
    """When it arrived, on a count over all arrivals and departures."""
    time: datetime
    method: str
    path: str
    """Without the query."""
    operation: str
    """One of `faults.OPERATIONS`, or `unknown`."""
    id: str | None
    """The envelope, draft, file or OAuth application that it is about."""
    user_id: str | None
    """Id of the user of its token, or of the signed-in user."""
    token_sha256: str | None
    """The first 8 hex digits of the token's SHA-256."""
    token_in_url: bool
    """The query had a token or a secret; it was not accepted, and is a fault of the client."""
    outcome: int = 0
    """The status the operation came to, 0 if it was never begun; differs from `status` where a fault lied."""
    status: int = 0
    """The status that was answered, 0 for none."""
    bytes_sent: int = 0
    """Bytes of the body that were handed to the connection."""
    whole: bool = False
    """The answer was sent to its end, and was no garbage."""
    done: int = 0
    """Tick at which it ended, on the same count; 0 while it is in progress."""


class DeleteCall(Struct, frozen=True, kw_only=True):
    """One call of delete, and what the same client could have had in its archive by then."""

    number: int
    time: datetime
    user_id: str | None
    outcome: int
    """200: it deleted the envelope, even if the answer was lost."""
    status: int
    downloaded: tuple[str, ...]
    """Files of the envelope that had been sent whole before."""
    missing: tuple[str, ...]
    """Files of the envelope that had not."""


class SendCall(Struct, frozen=True, kw_only=True):
    """One call of draft/send."""

    number: int
    time: datetime
    user_id: str | None
    outcome: int
    """200: it sent the draft, even if the answer was lost."""
    status: int


class Recorder:
    """All requests, in order of arrival."""

    def __init__(self) -> None:
        self._all: list[RecordedRequest] = []
        self._by_id: defaultdict[str | None, list[RecordedRequest]] = defaultdict(list)
        self._count = itertools.count(1)

    def open(
        self,
        *,
        time: datetime,
        method: str,
        path: str,
        operation: str,
        resource_id: str | None,
        user_id: str | None,
        token: str | None,
        token_in_url: bool,
    ) -> RecordedRequest:
        """Record a request when it arrives."""
        entry = RecordedRequest(
            number=next(self._count),
            time=time,
            method=method,
            path=path,
            operation=operation,
            id=resource_id,
            user_id=user_id,
            token_sha256=hashlib.sha256(token.encode()).hexdigest()[:8] if token else None,
            token_in_url=token_in_url,
        )
        self._all.append(entry)
        self._by_id[resource_id].append(entry)
        return entry

    def close(self, entry: RecordedRequest) -> None:
        """Record that a request has ended."""
        entry.done = next(self._count)

    def requests(self, operation: str | None = None, resource_id: str | None = None) -> list[RecordedRequest]:
        """The requests of this operation, about this id (None: all)."""
        chosen = self._all if resource_id is None else self._by_id.get(resource_id, [])
        return [each for each in chosen if operation in {None, each.operation}]

    def delete_calls(self, envelope_id: str, file_ids: Iterable[str]) -> list[DeleteCall]:
        """The delete calls for this envelope, which has these files."""
        downloads = {
            file_id: min(
                (each.done for each in self.requests("file", file_id) if _was_useful(each)), default=None
            )
            for file_id in file_ids
        }
        calls = []
        for call in self.requests("delete", envelope_id):
            had = tuple(
                file_id for file_id, first in downloads.items() if first is not None and first < call.number
            )
            calls.append(
                DeleteCall(
                    number=call.number,
                    time=call.time,
                    user_id=call.user_id,
                    outcome=call.outcome,
                    status=call.status,
                    downloaded=had,
                    missing=tuple(file_id for file_id in downloads if file_id not in had),
                )
            )
        return calls

    def send_calls(self, draft_id: str) -> list[SendCall]:
        """The calls of draft/send for this draft."""
        return [
            SendCall(
                number=call.number,
                time=call.time,
                user_id=call.user_id,
                outcome=call.outcome,
                status=call.status,
            )
            for call in self.requests("draft_send", draft_id)
        ]

    def clear(self) -> None:
        """Forget all requests."""
        self._all.clear()
        self._by_id.clear()


def _was_useful(download: RecordedRequest) -> bool:
    return download.whole and download.status == 200 and download.outcome == 200 and download.done > 0
