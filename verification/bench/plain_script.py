"""
The plain script that bench (b) compares with: archives envelopes by asyncio and httpx, with nothing around
it.

A job comes as JSON on stdin, how it went goes out as JSON on stdout. Per envelope it makes the calls to eSAW
that the controller makes, and does to the folder what archiving does (temporary file, fsync, rename, fsync of
the folder, read back uncached, compare; hash file and manifest last). It does not use Kubernetes, does not
check what is stored already, and tries nothing twice.
"""

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec

from verification.bench.machine import ProcessMemory, cpu_seconds


class PlainScriptJob(msgspec.Struct, frozen=True):
    """The work to do."""

    esaw: str
    token: str
    envelopes: list[str]
    root: str
    at_once: int


class PlainScriptResult(msgspec.Struct, frozen=True):
    """Result of a run: events a second, CPU ms per event, MiB of memory at most."""

    rate: float
    cpu: float
    memory: float


class PlainScript:
    """The plain script."""

    def __init__(self, job: PlainScriptJob, http: httpx.AsyncClient) -> None:
        self._job = job
        self._http = http

    async def run(self) -> None:
        """Archive and delete all envelopes, with this number at the same time."""
        waiting = iter(self._job.envelopes)

        async def one_after_the_other() -> None:
            for envelope in waiting:
                await self._archive(envelope)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._job.at_once):
                group.create_task(one_after_the_other())

    async def _archive(self, envelope: str) -> None:
        about = await self._get(f"envelope/{envelope}")
        configuration = await self._get(f"envelope/{envelope}/configuration")
        files = _files(await self._get(f"envelope/{envelope}/files"))
        stored = [
            await self._store(file_id, Path(self._job.root, "plain", envelope, kind, name))
            for file_id, kind, name in files
        ]
        folder = Path(self._job.root, "plain", envelope)
        lines = "".join(f"{each['sha256']}  {each['name']}\n" for each in stored)
        manifest = {"envelope": about, "metadata": configuration.get("MetaData"), "files": stored}
        await asyncio.to_thread(write_and_read_back, folder / "counterfoil.sha256", lines.encode())
        content = msgspec.json.format(msgspec.json.encode(manifest))
        await asyncio.to_thread(write_and_read_back, folder / "counterfoil.json", content)
        if _files(await self._get(f"envelope/{envelope}/files")) != files:
            raise ValueError(f"the files of {envelope} were changed")
        answer = await self._http.post("envelope/delete", json={"EnvelopeId": envelope})
        answer.raise_for_status()
        if not (await self._http.get(f"envelope/{envelope}")).is_client_error:
            raise ValueError(f"{envelope} was not deleted")

    async def _get(self, path: str) -> dict[str, Any]:
        answer = await self._http.get(path)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    async def _store(self, file_id: str, path: Path) -> dict[str, Any]:
        async with self._http.stream("GET", f"file/{file_id}") as answer:
            answer.raise_for_status()
            content = b"".join([chunk async for chunk in answer.aiter_raw()])
        sha256 = await asyncio.to_thread(write_and_read_back, path, content)
        return {"fileID": file_id, "name": f"{path.parent.name}/{path.name}", "sha256": sha256}


def _files(answer: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return id, kind and name of each file, for envelopes as this bench makes them."""
    trail = answer["AuditTrail"]
    return [
        *((each["FileId"], "Document", each["FileName"]) for each in answer["Documents"]),
        (trail["FileId"], "AuditTrail", "audit-trail.pdf"),
        (trail["XmlFileId"], "AuditTrailXml", "audit-trail.xml"),
    ]


def write_and_read_back(path: Path, content: bytes) -> str:
    """Write a file durably, read it from the disk, and return its SHA-256. Raises ``OSError`` when it is
    another."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    _synchronise(path.parent)
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        found = hashlib.sha256(file.read()).hexdigest()
    if found != hashlib.sha256(content).hexdigest():
        raise OSError(f"{path} was not stored as it was sent")
    return found


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _synchronise(folder.parent)


def _synchronise(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def run_job(job: PlainScriptJob) -> PlainScriptResult:
    """Do the job."""
    headers = {"Authorization": f"Bearer {job.token}", "Accept-Encoding": "identity"}
    async with httpx.AsyncClient(
        base_url=f"{job.esaw}/Api/v6/", headers=headers, trust_env=False, timeout=30
    ) as http:
        cpu, started = cpu_seconds(os.getpid()), time.perf_counter()
        await PlainScript(job, http).run()
        seconds = time.perf_counter() - started
    count = len(job.envelopes)
    return PlainScriptResult(
        rate=count / seconds,
        cpu=(cpu_seconds(os.getpid()) - cpu) * 1000 / count,
        memory=ProcessMemory.of(os.getpid()).peak,
    )


if __name__ == "__main__":
    print(
        msgspec.json.encode(
            asyncio.run(run_job(msgspec.json.decode(sys.stdin.read(), type=PlainScriptJob)))
        ).decode()
    )
