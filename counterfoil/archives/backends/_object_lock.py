"""
Object Lock of S3: objects that nobody changes or deletes until a day that the Archive sets.

``obstore`` can't request a lock with an upload, so each object is locked after it is verified; a corrupted
object can then still be removed. Each lock is read back. The bucket keeps versions (Object Lock demands it):
an object that is replaced later stays as an older version until its lock ends.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from counterfoil.archives.backends._http import HttpSite
from counterfoil.archives.backends._object_store import (
    BucketAddress,
    ErrorDialect,
    ObjectStoreResponse,
    error_of_response,
)
from counterfoil.archives.backends._sigv4 import SigningCredentials, signed
from counterfoil.archives.errors import ArchiveError, VerificationFailed
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
    """Locks the objects of one bucket, whose address ``site`` has; ``dialect`` has the words for refusals."""

    wanted: ObjectLock
    key: SigningCredentials
    site: HttpSite
    bucket: BucketAddress
    dialect: ErrorDialect
    clock: Clock

    async def probe(self) -> None:
        """See that the bucket has Object Lock; nothing is locked. Raises ``ArchiveError``."""
        answer = await self._request("GET", "", "object-lock")
        if not answer.is_success:
            raise self._error(answer)

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
        answer = await self._request("PUT", path, "retention", content, {"Content-MD5": digest})
        if not answer.is_success:
            raise self._error(answer)
        if not await self._is_locked(path, wanted):
            raise VerificationFailed(
                f"{self.bucket.archive}: {self.bucket.server} took the lock of {path} and does not have it. "
                "Check its Object Lock."
            )

    async def _is_locked(self, path: str, wanted: ObjectLockState) -> bool:
        answer = await self._request("GET", path, "retention")
        if answer.is_success:
            found = ObjectLockState.read(answer.content)
            return found is not None and found.satisfies(wanted)
        if self._parse_response(answer).code in NOT_LOCKED:
            return False
        raise self._error(answer)

    async def _request(
        self,
        method: str,
        path: str,
        subresource: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        url = f"{self.site.url}/{path}?{subresource}="
        sent = signed(self.key, method, url, headers=headers or {}, content=content, now=self.clock.now())
        return await self.site.request(method, url, headers=sent, content=content or None)

    def _parse_response(self, answer: httpx.Response) -> ObjectStoreResponse:
        code = re.search(rb"<Code>([A-Za-z0-9.]{1,64})</Code>", answer.content)
        return ObjectStoreResponse(
            self.dialect.service, str(answer.status_code), code[1].decode() if code else ""
        )

    def _error(self, answer: httpx.Response) -> ArchiveError:
        return error_of_response(self._parse_response(answer), self.dialect, self.bucket)
