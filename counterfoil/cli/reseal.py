"""
``python -m counterfoil.cli.reseal``: encrypt every consented Sender's key with the newest sealing key.

The command begins only if the newest key in the folder is the newest one of the controllers too. They must
have had it for long enough that every process has it (``status.sealingKey`` of each Organization). What is
sealed with any other key, no process could open.

Sender by Sender: open the Secret, seal, write it back on condition that nobody wrote meanwhile, then record
the key id in the Sender's status. A consent that is stored during the run may still be sealed with an older
key: a later run seals it again. The command may be interrupted and started again at any time; it skips
Senders that are done already. Everything works meanwhile, since all keys open. At the end it prints the
number of Senders per result, and the sealing keys that are no longer needed.
"""

import asyncio
import base64
import logging
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from counterfoil import logs
from counterfoil.clock import Clock, WallClock
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import ApiError, Conflict, NotConfigured, NotFound
from counterfoil.resources import Organization, ResourceInvalid, Sender
from counterfoil.sealing import (
    KEY_SETTLE,
    SECRET_KEY,
    SECRET_TYPE,
    SealBroken,
    Sealing,
    SealingKeysInvalid,
    SealKeyUnknown,
    key_id_of,
)
from counterfoil.settings import ResealSettings, load
from counterfoil.worker_processes.sandbox import hide_memory

_log = logging.getLogger(__name__)

MAX_WRITE_ATTEMPTS = 5
"""Maximum attempts to write one Secret after conflicts."""


class ResealOutcome(StrEnum):
    """Result for one Sender's key."""

    RESEALED = "resealed"
    NEWEST = "sealed with the newest key already"
    NONE = "without a sealed key"
    FAILED = "failed"


class NewestKeyRefused(Exception):
    """The newest key of the folder may be unknown to a running process; the message says what to do."""


@dataclass
class ResealReport:
    """Result of one run."""

    counts: Counter[ResealOutcome] = field(default_factory=Counter)
    in_use: set[str] = field(default_factory=set)
    """Ids of the sealing keys that something is still sealed with."""
    replaced: set[str] = field(default_factory=set)
    """Ids of the sealing keys that this run replaced."""

    def lines(self) -> list[str]:
        """Say it to a person."""
        report_lines = [f"{self.counts[each]} {each}" for each in ResealOutcome]
        # Of a key that this run did not meet, nobody knows what is sealed with it.
        spare = sorted(self.replaced - self.in_use)
        if self.counts[ResealOutcome.FAILED]:
            report_lines.append("The failures are named above; keep all sealing keys until they are fixed.")
        elif spare:
            report_lines.append(
                f"No longer needed: {', '.join(spare)}. Forms that are open may be, for another hour."
            )
        return report_lines


async def reseal(kube: KubeClient, sealing: Sealing, clock: Clock) -> ResealReport:
    """Go through all Senders. Raises ``NewestKeyRefused``, and ``ApiError`` when they can't be listed."""
    await _check_newest_key(kube, sealing, clock.now())
    report = ResealReport()
    async for raw in kube.list(Sender):
        try:
            sender = Sender.parse(raw)
            outcome = await _reseal_sender(kube, sealing, sender, report)
        except (ResourceInvalid, ApiError, SealBroken, SealKeyUnknown) as problem:
            _log.error("%s", problem, extra={"sender": raw["metadata"]["name"]})
            outcome = ResealOutcome.FAILED
        report.counts[outcome] += 1
    return report


async def _check_newest_key(kube: KubeClient, sealing: Sealing, now: datetime) -> None:
    """Raise ``NewestKeyRefused`` unless all files can be used and every controller has the newest key."""
    if sealing.faults:
        raise NewestKeyRefused(f"{' '.join(sealing.faults)} Correct the folder, and repeat.")
    found = [(raw["metadata"]["name"], Organization.parse(raw)) async for raw in kube.list(Organization)]
    newest = sealing.newest
    for name, organization in found:
        key = organization.status.sealing_key
        if key is None:
            raise NewestKeyRefused(
                f"status.sealingKey of Organization/{name} is not set: no controller reports that it has the "
                f"key {newest!r}. Let a controller of this version run with the sealing keys, and repeat."
            )
        if key.id != newest:
            raise NewestKeyRefused(
                f"The newest key of the folder is {newest!r}, but the newest one of the controllers is "
                f"{key.id!r} (status.sealingKey of Organization/{name}). Put the same files into the folder "
                "and into the Secret of the sealing keys, and repeat."
            )
        if key.hash != sealing.newest_hash:
            raise NewestKeyRefused(
                f"The controllers have another key with the name {newest!r} (status.sealingKey of "
                f"Organization/{name}). Take the file from the Secret of the sealing keys, and repeat."
            )
        if now - key.observed_time < KEY_SETTLE:
            since = f"{key.observed_time:%H:%M:%S} UTC"
            raise NewestKeyRefused(
                f"A controller has had the key {newest!r} only since {since}. Repeat the command five "
                "minutes later: by then every process has it."
            )
    if not found:
        raise NewestKeyRefused("There is no Organization, so nothing shows which keys the controllers have.")


async def _reseal_sender(
    kube: KubeClient, sealing: Sealing, sender: Sender, report: ResealReport
) -> ResealOutcome:
    if sender.spec.token_secret_ref is not None:
        return ResealOutcome.NONE
    for _ in range(MAX_WRITE_ATTEMPTS):
        try:
            secret = await kube.secret(sender.name)
        except NotFound:
            return ResealOutcome.NONE
        if secret.type != SECRET_TYPE:
            return ResealOutcome.NONE
        data = secret.data.get(SECRET_KEY, b"")
        if key_id_of(data) == sealing.newest:
            report.in_use.add(sealing.newest)
            await _record_key_id(kube, sender, sealing.newest)
            return ResealOutcome.NEWEST
        replaced = key_id_of(data)
        token = sealing.open(data, kube.namespace, sender)
        sealed = sealing.seal_with_newest(token, kube.namespace, sender)
        changes = {
            "metadata": {"resourceVersion": secret.resource_version},
            "data": {SECRET_KEY: base64.b64encode(sealed.data).decode()},
        }
        try:
            await kube.patch_secret(sender.name, changes)
        except Conflict:
            continue
        report.in_use.add(sealed.key_id)
        report.replaced.add(replaced)
        await _record_key_id(kube, sender, sealed.key_id)
        return ResealOutcome.RESEALED
    _log.error("somebody else writes this Secret all the time", extra={"sender": sender.name})
    return ResealOutcome.FAILED


async def _record_key_id(kube: KubeClient, sender: Sender, key_id: str) -> None:
    """Record the key id if it changed; also after a run that was interrupted just before this step."""
    if sender.status.key is not None and sender.status.key.key_id != key_id:
        await kube.patch_status(Sender, sender.name, {"key": {"keyID": key_id}}, resource_version=None)


async def run(settings: ResealSettings) -> int:
    """Reseal everything; return the exit status."""
    if settings.sealing_keys is None:
        raise SealingKeysInvalid("COUNTERFOIL_SEALING_KEYS is not set; name the folder of the sealing keys.")
    sealing = Sealing(settings.sealing_keys)
    async with connect(namespace=settings.namespace) as kube:
        report = await reseal(kube, sealing, WallClock())
    print("\n".join(report.lines()))
    return 1 if report.counts[ResealOutcome.FAILED] else 0


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run as a program; return the exit status."""
    settings = load(ResealSettings, argv, environ)
    logs.configure(settings.log_level, settings.log_format)
    hide_memory()
    try:
        return asyncio.run(run(settings))
    except (SealingKeysInvalid, NewestKeyRefused, NotConfigured, ApiError, ResourceInvalid) as trouble:
        # The person who started the command can fix this error: no stack trace.
        _log.critical("nothing can be resealed: %s", trouble)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
