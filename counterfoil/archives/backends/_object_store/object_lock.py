"""
Object Lock of S3: objects that nobody changes or deletes until a day that the Archive sets.

Each object is locked after it is verified, not with its upload: a corrupted object can then still be
removed. Each lock is read back. The bucket keeps versions (Object Lock demands it):
an object that is replaced later stays as an older version until its lock ends.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from counterfoil.archives.backends._object_store.client import ErrorDialect, ObjectStoreClient, StoreRequest
from counterfoil.archives.errors import VerificationFailed
from counterfoil.clock import Clock
from counterfoil.resources.archive import ObjectLock

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
NOT_LOCKED = frozenset({"NoSuchObjectLockConfiguration"})
SLACK = timedelta(days=1)
"""Maximum time by which an existing lock may end before a new one would: an earlier run set it."""


@dataclass(frozen=True)
class ObjectLockState:
    """The lock that an object has."""

    mode: str
    until: datetime

    def as_xml(self) -> bytes:
        """Return it as S3 takes it."""
        until = self.until.strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            f'<Retention xmlns="{NAMESPACE}"><Mode>{self.mode}</Mode>'
            f"<RetainUntilDate>{until}</RetainUntilDate></Retention>"
        ).encode()

    @classmethod
    def read(cls, body: bytes) -> "ObjectLockState | None":
        """Read it out of an answer; None if there is none in it."""
        mode = re.search(rb"<Mode>([A-Z]{1,32})</Mode>", body)
        until = re.search(rb"<RetainUntilDate>([0-9TZ:.+-]{1,40})</RetainUntilDate>", body)
        if mode is None or until is None:
            return None
        try:
            read = datetime.fromisoformat(until[1].decode())
        except ValueError:
            return None
        return cls(mode[1].decode(), read if read.tzinfo else read.replace(tzinfo=UTC))

    def satisfies(self, wanted: "ObjectLockState") -> bool:
        """Whether what has this lock is kept as well as it should be."""
        return self.mode in (wanted.mode, "COMPLIANCE") and self.until >= wanted.until - SLACK


@dataclass(frozen=True)
class ObjectLockClient:
    """Locks the objects of one bucket; ``dialect`` has the words for refusals."""

    wanted: ObjectLock
    client: ObjectStoreClient
    dialect: ErrorDialect
    clock: Clock

    async def probe(self) -> None:
        """See that the bucket has Object Lock; nothing is locked. Raises ``ArchiveError``."""
        answer = await self.client.request(StoreRequest("GET", query={"object-lock": ""}))
        if not answer.is_success:
            raise self.client.error(answer, self.dialect)

    async def lock(self, path: str) -> None:
        """Lock the object at a percent-encoded path, unless it is; read that back. Raises
        ``ArchiveError``."""
        until = (self.clock.now() + timedelta(days=self.wanted.retain_days)).replace(microsecond=0)
        wanted = ObjectLockState(self.wanted.mode.upper(), until)
        if await self._is_locked(path, wanted):
            return
        content = wanted.as_xml()
        # S3 wants it of this request, as a guard against corruption in transit; it is no secret's hash.
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        request = StoreRequest("PUT", path, {"retention": ""}, {"Content-MD5": digest}, content)
        answer = await self.client.request(request)
        if not answer.is_success:
            raise self.client.error(answer, self.dialect)
        if not await self._is_locked(path, wanted):
            bucket = self.client.bucket
            raise VerificationFailed(
                f"{bucket.archive}: {bucket.server} took the lock of an object and does not have it. "
                "Check its Object Lock."
            )

    async def _is_locked(self, path: str, wanted: ObjectLockState) -> bool:
        answer = await self.client.request(StoreRequest("GET", path, {"retention": ""}))
        if answer.is_success:
            found = ObjectLockState.read(answer.body)
            return found is not None and found.satisfies(wanted)
        if self.client.parsed(answer).code in NOT_LOCKED:
            return False
        raise self.client.error(answer, self.dialect)
