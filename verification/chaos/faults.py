"""
The faults of a plan, set as traps on the proxies. A fault counts only when it struck.
"""

import asyncio
import json
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import Behaviour, User
from sandbox.servers.hostile import doubled
from sandbox.servers.proxies import Cut, Instead, Passage, Proxy, Trap, TrapPoint
from verification.chaos import copies as copying
from verification.chaos.plan import REDIRECTED, Fault
from verification.chaos.stage import REQUEST, Stage, operation

JSON: Final = "application/json"
_REASONS: Final = {
    401: "Unauthorized",
    403: "Forbidden",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
GARBAGE: Final = (
    (200, b"<html><body>Please log in</body></html>", "text/html"),
    (200, b'{"kind": "Stat', JSON),
    (200, b"{}", JSON),
    (200, b"", JSON),
    (404, b"default backend - 404", "text/plain"),
    (403, b"<html>Access denied</html>", "text/html"),
)
"""Answers of other programs: login page, cut JSON, other JSON, nothing, an ingress, a firewall."""

FOREIGN: Final = "f0e16a00-0000-4000-8000-000000000001"
"""Id of an envelope of another eSAW."""
FLOOD: Final = 2
"""Number of envelopes that do not exist in each answer to a search; a sweep searches day by day."""
DAYS: Final = (1, 2, 5, -1, -2, -5)
"""Days by which a clock jumps; events are kept longer than that."""
WRONG_LABELS: Final = {
    "counterfoil.dev/shard": "counterfoil.dev/shard=63",
    "counterfoil.dev/envelope": "counterfoil.dev/envelope-",
    "counterfoil.dev/organization": "counterfoil.dev/organization=other",
    "counterfoil.dev/archived": "counterfoil.dev/archived=true",
}
"""The change that a person makes to a label of an event, by label."""
_FAILURES: Final = (500, 502, 503)


@dataclass(eq=False)
class Armed:
    """One fault as a trap."""

    fault: Fault
    injector: "Injector"
    passage: Passage | None = None

    def matches(self, passage: Passage) -> bool:
        """Whether a request is one of its operation."""
        if self.fault.operation not in ("*", operation(self.fault.way, passage)):
            return False
        self.passage = passage
        return True

    async def strike(self) -> None:
        """Do it. Raises ``Cut`` or ``Instead``."""
        assert self.passage is not None  # noqa: S101 - a trap springs only after it matched
        # Counted after the effect, which may find nothing to strike.
        try:
            struck = await EFFECTS[self.fault.kind](self.injector, self.fault, self.passage)
        except (Cut, Instead):
            self.injector.count(self.fault)
            raise
        if struck:
            self.injector.count(self.fault)


@dataclass(eq=False)
class Injector:
    """Sets the traps of a plan and carries out their effects."""

    stage: Stage
    struck: Counter[str] = field(default_factory=Counter)
    """Number of faults that struck, by kind."""
    _traps: list[tuple[Proxy, Trap]] = field(default_factory=list)
    _counted: set[Fault] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """One for each server that effects end and start again."""

    def arm(self) -> None:
        """Set all traps."""
        for fault in self.stage.plan.faults:
            armed = Armed(fault, self)
            way = self.stage.ways[fault.way]
            trap = way.trap(
                armed.matches,
                TrapPoint[fault.point],
                armed.strike,
                after_bytes=fault.subject,
                times=fault.times,
                skips=fault.after,
            )
            self._traps.append((way, trap))

    def count(self, fault: Fault) -> None:
        """Count a fault, once."""
        if fault not in self._counted:
            self._counted.add(fault)
            self.struck[fault.kind] += 1

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run an effect beside the requests."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        return task

    async def start_until_stored(self, work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
        """Run an effect beside the requests, and wait until it says that the API server has stored it."""
        stored = asyncio.Event()
        self.start(work(stored)).add_done_callback(lambda _: stored.set())
        await stored.wait()

    async def end(self) -> None:
        """
        End all faults: nothing more strikes, all servers and processes run, the sender has a valid key.

        People resume what a restored etcd suspends again, and move planted files away.
        """
        for way, trap in self._traps:
            way.remove([trap])
        for way in self.stage.ways.values():
            way.cut(lambda passage: passage.is_endless or passage.byte_seconds > 0)
        while self._tasks:
            await asyncio.gather(*self._tasks)
            self._tasks = {each for each in self._tasks if not each.done()}
        await self.stage.trigger_callbacks()
        self.stage.resume()
        self.stage.correct_clocks()
        if self.stage.restores:
            await self.stage.resume_suspended()
        await self.stage.restore_settings()
        await self.stage.move_planted_away()

    # Effects that take a while

    async def api_down(self) -> None:
        """Kill the API server and start it again."""
        async with self._locks["api"]:
            await self.stage.servers.plane.kill_apiserver()
            await self.stage.servers.plane.start_apiserver()

    async def etcd_restored(self, seconds: float) -> None:
        """
        Save etcd's data, and put it back later. Then do what docs/backup.md says: the sender gets a key that
        is valid, and the organization is swept.
        """
        async with self._locks["api"]:
            saved = await self.stage.servers.plane.save_data()
            await asyncio.sleep(seconds)
            await self.stage.servers.plane.restore_data(saved)
            self.stage.restores += 1
            await self.stage.renew_key()
            await self.stage.sweep()

    async def disk_full(self, seconds: float) -> None:
        """Fill the disk of the archive, and free it again."""
        async with self._locks["archive"]:
            self.stage.fill_disk()
            await asyncio.sleep(seconds)
            self.stage.free_disk()

    async def archive_down(self, kind: str, seconds: float) -> None:
        """Kill the server of this kind of archive and start it again."""
        servers = self.stage.servers
        server = servers.s3 if kind == "s3" else servers.webdav.rclone
        async with self._locks[kind]:
            server.kill()
            await asyncio.sleep(seconds)
            await server.start()

    async def mail_down(self, seconds: float) -> None:
        """Stop the mail server and start it again."""
        async with self._locks["mail"]:
            await self.stage.smtp.stop()
            await asyncio.sleep(seconds)
            await self.stage.smtp.start()

    async def give_key(self, seconds: float) -> None:
        """Give the sender a new key, as a person does after a mail."""
        await asyncio.sleep(seconds)
        await self.stage.renew_key()

    async def consent(self, user: User, seconds: float) -> None:
        """Let a person consent again, as after a mail."""
        await asyncio.sleep(seconds)
        await self.stage.consent_again(user)

    async def resume(self, pid: int, seconds: float) -> None:
        """Let a stopped process continue."""
        await asyncio.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    async def give_callbacks_up(self, seconds: float) -> None:
        """Let eSAW give up each callback that is not accepted at once, for some time."""
        self.stage.change_esaw(callback_attempts=1)
        await asyncio.sleep(seconds)
        self.stage.change_esaw(callback_attempts=Behaviour().callback_attempts)

    async def rotate_sealing_key(self, fault: Fault) -> None:
        """Mount one more sealing key, and seal the keys of all senders again with it."""
        assert self.stage.rotation is not None  # noqa: S101 - only rounds with senders have this fault
        async with self._locks["sealing"]:
            await self.stage.rotation.begin(is_settled=fault.subject % 2 == 0)

    async def find_foreign_ids(self) -> None:
        """Let each search find an envelope of another eSAW from now on, and let a person order a sweep."""
        self.stage.change_esaw(foreign_hits=(FOREIGN,))
        await self.stage.sweep()

    async def flood_searches(self, seconds: float) -> None:
        """Let each search find envelopes that do not exist for some time, and let a person order a sweep."""
        self.stage.change_esaw(flood_hits=FLOOD)
        await self.stage.sweep()
        await asyncio.sleep(seconds)
        self.stage.change_esaw(flood_hits=0)

    async def suspend(
        self, kind: str, name: str, envelope: str, seconds: float, stored: asyncio.Event
    ) -> None:
        """Suspend an object for some time, as a person does; ``stored`` is set when that is stored."""
        async with self._locks[name]:
            await self.stage.set_suspend(kind, name, is_suspended=True)
            decision = self.stage.decide("suspend", envelope)
            stored.set()
            await asyncio.sleep(seconds)
            decision.ended = self.stage.ticks.next()
            await self.stage.set_suspend(kind, name, is_suspended=False)

    async def suspend_archive(self, name: str, seconds: float, stored: asyncio.Event) -> None:
        """Suspend an Archive for some time, as a person does."""
        async with self._locks[f"archive {name}"]:
            await self.stage.set_suspend("archive", name, is_suspended=True)
            # A copy that is made is not read again because its Archive is suspended.
            decision = self.stage.decide("suspend", archive=name) if name in self.stage.archives else None
            stored.set()
            await asyncio.sleep(seconds)
            if decision is not None:
                decision.ended = self.stage.ticks.next()
            await self.stage.set_suspend("archive", name, is_suspended=False)

    async def change_copies(self, fault: Fault, stored: asyncio.Event) -> None:
        """Change `spec.copies` for some time, as a person does."""
        async with self._locks["copies"]:
            changes = copying.COPY_CHANGES
            await self.stage.set_copies(changes[fault.subject % len(changes)])
            stored.set()
            await asyncio.sleep(fault.seconds)
            await self.stage.set_copies(copying.PLANNED)

    async def change_routes(self, fault: Fault) -> None:
        """Change `spec.routes` for some time, as a person does."""
        async with self._locks["routes"]:
            changes = copying.ROUTE_CHANGES
            await self.stage.set_routes(changes[fault.subject % len(changes)])
            await asyncio.sleep(fault.seconds)
            await self.stage.set_routes(copying.PLANNED_ROUTES)

    async def skip(self, name: str, envelope: str, seconds: float, stored: asyncio.Event) -> None:
        """Skip an event, and retry it later unless ``seconds`` is 0, as persons do."""
        async with self._locks[name]:
            await self.stage.label_event(name, f"{REQUEST}=skip")
            self.stage.decide("skip", envelope)
            stored.set()
            if seconds:
                await asyncio.sleep(seconds)
                self.stage.take_back_skips(envelope)
                await self.stage.label_event(name, f"{REQUEST}=retry")

    async def relabel(self, event: Mapping[str, Any], label: str, seconds: float) -> None:
        """Give an event a wrong label for some time."""
        name, before = event["metadata"]["name"], event["metadata"]["labels"].get(label)
        async with self._locks[name]:
            await self.stage.label_event(name, WRONG_LABELS[label])
            await asyncio.sleep(seconds)
            await self.stage.label_event(name, f"{label}-" if before is None else f"{label}={before}")

    async def correct_clock(self, process: CounterfoilProcess, seconds: float) -> None:
        """Set a clock right after some time."""
        await asyncio.sleep(seconds)
        self.stage.set_clock(process, 0.0)

    async def restart_envelope(self, envelope: str) -> None:
        """Let an expired envelope be restarted and signed. Another person may delete it meanwhile."""
        with suppress(ValueError):
            await self.stage.esaw.restart(envelope)
            await self.stage.esaw.complete(envelope)


async def _event_of(stage: Stage, fault: Fault, passage: Passage) -> dict[str, Any] | None:
    """Return the event of the envelope that a request names, or of one of all; None if there is none."""
    if not stage.envelopes:
        return None
    named = (each for each in stage.envelopes if each in passage.path)
    return await stage.event_of(next(named, stage.envelopes[fault.subject % len(stage.envelopes)]))


Effect = Callable[[Injector, Fault, Passage], Awaitable[bool]]
"""Carry a fault out; return whether it struck. Raises ``Cut`` or ``Instead``."""


async def _cut(injector: Injector, fault: Fault, passage: Passage) -> bool:
    raise Cut


async def _slow(injector: Injector, fault: Fault, passage: Passage) -> bool:
    await asyncio.sleep(fault.seconds)
    return True


async def _hang(injector: Injector, fault: Fault, passage: Passage) -> bool:
    await asyncio.sleep(fault.seconds)
    raise Cut


async def _trickle(injector: Injector, fault: Fault, passage: Passage) -> bool:
    passage.byte_seconds = fault.seconds
    return True


async def _endless(injector: Injector, fault: Fault, passage: Passage) -> bool:
    passage.is_endless = True
    return True


async def _redirect(injector: Injector, fault: Fault, passage: Passage) -> bool:
    ways = injector.stage.ways
    other = ways["esaw" if fault.way in ("archive", "copy") else "api"].url
    raise Instead(
        (301, 302, 307, 308)[fault.subject % 4], headers={"Location": f"{other}{REDIRECTED}{passage.path}"}
    )


async def _garbage(injector: Injector, fault: Fault, passage: Passage) -> bool:
    raise Instead(*GARBAGE[fault.subject % len(GARBAGE)])


def _api_status(*codes: int) -> Effect:
    async def answer(injector: Injector, fault: Fault, passage: Passage) -> bool:
        code = codes[fault.subject % len(codes)]
        reason = "AlreadyExists" if code == 409 and passage.method == "POST" else _REASONS[code]
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
        if code == 410 and passage.is_watch and fault.subject % 2:
            raise Instead(200, json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
        headers = {"Retry-After": _retry_after(fault)} if code == 429 else {}
        raise Instead(code, json.dumps(status).encode(), headers=headers)

    return answer


def _retry_after(fault: Fault) -> str:
    """Return the header of an API server or of a proxy: seconds, a date, or neither."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    return ("1", soon, "later")[fault.subject % 3]


def _status(*codes: int) -> Effect:
    async def answer(injector: Injector, fault: Fault, passage: Passage) -> bool:
        raise Instead(codes[fault.subject % len(codes)], b"no", "text/plain")

    return answer


async def _full(injector: Injector, fault: Fault, passage: Passage) -> bool:
    # An object store is believed by its code only, and WebDAV by the number.
    raise Instead(507, b"<Error><Code>XMinioStorageFull</Code></Error>", "application/xml")


async def _corrupt_answer(injector: Injector, fault: Fault, passage: Passage) -> bool:
    passage.corrupts_answer = True
    return True


async def _corrupt_request(injector: Injector, fault: Fault, passage: Passage) -> bool:
    if not passage.body:
        return False
    place = fault.subject % len(passage.body)
    passage.body = b"".join(
        (passage.body[:place], bytes([passage.body[place] ^ 1]), passage.body[place + 1 :])
    )
    return True


async def _killed(injector: Injector, fault: Fault, passage: Passage) -> bool:
    process = injector.stage.client_of(passage)
    if process is None:
        return False
    injector.stage.kill(process)
    raise Cut


async def _pages_killed(injector: Injector, fault: Fault, passage: Passage) -> bool:
    process = injector.stage.client_of(passage)
    if process is None or process not in injector.stage.pages:
        return False
    injector.stage.kill(process)
    raise Cut


async def _sender_leaves(injector: Injector, fault: Fault, passage: Passage) -> bool:
    senders = injector.stage.senders
    people = senders.people if senders is not None else []
    first = fault.subject % max(1, len(people))
    left = next(
        (each for each in (*people[first:], *people[:first]) if senders and senders.leave(each)), None
    )
    if left is None:
        return False
    injector.start(injector.consent(left, fault.seconds))
    return True


async def _stopped(injector: Injector, fault: Fault, passage: Passage) -> bool:
    process = injector.stage.client_of(passage)
    if process is None:
        return False
    os.kill(process.pid, signal.SIGSTOP)
    injector.start(injector.resume(process.pid, fault.seconds))
    return True


async def _clock_set(injector: Injector, fault: Fault, passage: Passage) -> bool:
    process = injector.stage.client_of(passage)
    if process is None:
        return False
    injector.stage.set_clock(process, fault.seconds)
    return True


async def _disk_full(injector: Injector, fault: Fault, passage: Passage) -> bool:
    if not injector.stage.has_own_disk:
        return False
    injector.start(injector.disk_full(fault.seconds))
    return True


async def _clock_jumps(injector: Injector, fault: Fault, passage: Passage) -> bool:
    process = injector.stage.client_of(passage)
    if process is None:
        return False
    injector.stage.set_clock(process, DAYS[fault.subject % len(DAYS)] * 86_400)
    injector.start(injector.correct_clock(process, fault.seconds))
    return True


async def _names_doubled(injector: Injector, fault: Fault, passage: Passage) -> bool:
    if passage.method != "PROPFIND" and "list-type" not in passage.query:
        return False
    passage.rewrite = doubled
    return True


async def _organization_suspended(injector: Injector, fault: Fault, passage: Passage) -> bool:
    await injector.start_until_stored(
        lambda stored: injector.suspend("organization", "acme", "", fault.seconds, stored)
    )
    return True


async def _event_suspended(injector: Injector, fault: Fault, passage: Passage) -> bool:
    if (event := await _event_of(injector.stage, fault, passage)) is None:
        return False
    name, envelope = event["metadata"]["name"], event["spec"]["envelopeID"]
    await injector.start_until_stored(
        lambda stored: injector.suspend("ee", name, envelope, fault.seconds, stored)
    )
    return True


async def _skipped(injector: Injector, fault: Fault, passage: Passage) -> bool:
    if (event := await _event_of(injector.stage, fault, passage)) is None:
        return False
    name, envelope = event["metadata"]["name"], event["spec"]["envelopeID"]
    seconds = fault.seconds if fault.subject % 3 else 0
    await injector.start_until_stored(lambda stored: injector.skip(name, envelope, seconds, stored))
    return True


async def _archive_suspended(injector: Injector, fault: Fault, passage: Passage) -> bool:
    names = (*injector.stage.archives, *injector.stage.copies)
    name = names[fault.subject % len(names)]
    await injector.start_until_stored(lambda stored: injector.suspend_archive(name, fault.seconds, stored))
    return True


async def _copies_changed(injector: Injector, fault: Fault, passage: Passage) -> bool:
    await injector.start_until_stored(lambda stored: injector.change_copies(fault, stored))
    return True


async def _copy_requested(injector: Injector, fault: Fault, passage: Passage) -> bool:
    # Of any event, also of one that has ended.
    envelopes = injector.stage.envelopes
    event = await injector.stage.event_of(envelopes[fault.subject % len(envelopes)]) if envelopes else None
    if event is None:
        return False
    injector.start(injector.stage.label_event(event["metadata"]["name"], f"{REQUEST}=copy"))
    return True


async def _import_created(injector: Injector, fault: Fault, passage: Passage) -> bool:
    await injector.stage.create_import()
    return True


async def _relabelled(injector: Injector, fault: Fault, passage: Passage) -> bool:
    if (event := await _event_of(injector.stage, fault, passage)) is None:
        return False
    injector.start(injector.relabel(event, list(WRONG_LABELS)[fault.subject % 4], fault.seconds))
    return True


def _beside(work: Callable[[Injector, Fault], Coroutine[Any, Any, None]]) -> Effect:
    async def start(injector: Injector, fault: Fault, passage: Passage) -> bool:
        injector.start(work(injector, fault))
        return True

    return start


async def _revoked(injector: Injector, fault: Fault, passage: Passage) -> bool:
    injector.stage.esaw.revoke(injector.stage.anna)
    injector.start(injector.give_key(fault.seconds))
    return True


async def _deleted(injector: Injector, fault: Fault, passage: Passage) -> bool:
    stage = injector.stage
    if not stage.envelopes:
        return False
    envelope = stage.envelopes[fault.subject % len(stage.envelopes)]
    if not stage.esaw.exists(envelope):
        return False
    stage.removed.add(envelope)
    await stage.esaw.delete(envelope)
    return True


async def _restarted(injector: Injector, fault: Fault, passage: Passage) -> bool:
    esaw = injector.stage.esaw
    expired = [
        each for each in injector.stage.envelopes if esaw.exists(each) and esaw.status(each) == "Expired"
    ]
    if not expired:
        return False
    injector.start(injector.restart_envelope(expired[fault.subject % len(expired)]))
    return True


_EFFECTS: Final[dict[str, Effect]] = {
    "api-cut": _cut,
    "api-answer-lost": _cut,
    "api-slow": _slow,
    "api-401": _api_status(401),
    "api-409": _api_status(409),
    "api-410": _api_status(410),
    "api-429": _api_status(429),
    "api-500": _api_status(500, 503),
    "api-garbage": _garbage,
    "api-unreachable": _cut,
    "api-down": _beside(lambda injector, fault: injector.api_down()),
    "etcd-restored": _beside(lambda injector, fault: injector.etcd_restored(fault.seconds)),
    "esaw-cut": _cut,
    "esaw-answer-lost": _cut,
    "esaw-truncated": _cut,
    "esaw-slow": _slow,
    "esaw-429": _status(429),
    "esaw-5xx": _status(*_FAILURES),
    "esaw-garbage": _garbage,
    "esaw-down": _cut,
    "esaw-trickle": _trickle,
    "esaw-endless": _endless,
    "esaw-hang": _hang,
    "esaw-redirect": _redirect,
    "esaw-key-revoked": _revoked,
    "esaw-key-rotated": _beside(lambda injector, fault: injector.stage.renew_key()),
    "esaw-envelope-deleted": _deleted,
    "esaw-envelope-restarted": _restarted,
    "esaw-foreign-ids": _beside(lambda injector, fault: injector.find_foreign_ids()),
    "esaw-find-flood": _beside(lambda injector, fault: injector.flood_searches(fault.seconds)),
    "esaw-callbacks-given-up": _beside(lambda injector, fault: injector.give_callbacks_up(fault.seconds)),
    "archive-cut": _cut,
    "archive-answer-lost": _cut,
    "archive-truncated": _cut,
    "archive-slow": _slow,
    "archive-5xx": _status(*_FAILURES),
    "archive-full": _full,
    "archive-read-corrupted": _corrupt_answer,
    "archive-write-corrupted": _corrupt_request,
    "archive-trickle": _trickle,
    "archive-endless": _endless,
    "archive-hang": _hang,
    "archive-hangs-all": _hang,
    "archive-redirect": _redirect,
    "archive-names-doubled": _names_doubled,
    "archive-down": _beside(
        lambda injector, fault: injector.archive_down(injector.stage.plan.archive, fault.seconds)
    ),
    "archive-disk-full": _disk_full,
    "controller-killed": _killed,
    "controller-stopped": _stopped,
    "receiver-killed": _killed,
    "shards-changed": _beside(
        lambda injector, fault: injector.stage.replace_controllers(fault.subject % 3 + 1, fault.subject + 1)
    ),
    "clock-set": _clock_set,
    "clock-jumps-days": _clock_jumps,
    "person-suspends": _organization_suspended,
    "person-suspends-event": _event_suspended,
    "person-skips": _skipped,
    "person-relabels": _relabelled,
    "person-suspends-archive": _archive_suspended,
    "person-changes-routes": _beside(lambda injector, fault: injector.change_routes(fault)),
    "person-changes-copies": _copies_changed,
    "person-requests-copy": _copy_requested,
    "import-makes-copies": _import_created,
    "pages-killed": _pages_killed,
    "draft-answer-lost": _cut,
    "draft-5xx": _status(*_FAILURES),
    "draft-garbage": _garbage,
    "envelope-refused": _api_status(403, 422, 500, 503),
    "sender-leaves": _sender_leaves,
    "sealing-key-rotated": _beside(lambda injector, fault: injector.rotate_sealing_key(fault)),
    "mail-down": _beside(lambda injector, fault: injector.mail_down(fault.seconds)),
}

EFFECTS: Final = _EFFECTS | {
    name.replace("archive-", "copy-"): effect
    for name, effect in _EFFECTS.items()
    if name.startswith("archive-") and name != "archive-disk-full"
}
"""The effects by kind of fault. The server of the copies has those of the archive."""
EFFECTS["copy-down"] = _beside(
    lambda injector, fault: injector.archive_down(injector.stage.copy_server, fault.seconds)
)
