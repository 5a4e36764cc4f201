"""
``python -m counterfoil.cli.reseal``: encrypt every consented Sender's key with the newest sealing key.

Sender by Sender: open the Secret, seal, write it back on condition that nobody wrote meanwhile, then record
the key id in the Sender's status. Pages that started some minutes ago may seal a consent with an older key: a
later run seals it again. The command may be interrupted and started again at any time; it skips Senders that
are done already. Everything works meanwhile, since all keys open. At the end it prints the number of Senders
per result, and the sealing keys that are no longer needed.
"""

import asyncio
import base64
import logging
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from counterfoil import logs
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import ApiError, Conflict, NotConfigured, NotFound
from counterfoil.resources import ResourceInvalid, Sender
from counterfoil.sealing import (
    SECRET_KEY,
    SECRET_TYPE,
    SealBroken,
    Sealing,
    SealingKeysInvalid,
    SealKeyUnknown,
    key_id_of,
)
from counterfoil.settings import ResealSettings, load

_log = logging.getLogger(__name__)

MAX_WRITE_ATTEMPTS = 5
"""Maximum attempts to write one Secret after conflicts."""


class ResealOutcome(StrEnum):
    """Result for one Sender's key."""

    RESEALED = "resealed"
    NEWEST = "sealed with the newest key already"
    NONE = "without a sealed key"
    FAILED = "failed"


@dataclass
class ResealReport:
    """Result of one run."""

    counts: Counter[ResealOutcome] = field(default_factory=Counter)
    in_use: set[str] = field(default_factory=set)
    """Ids of the sealing keys that something is still sealed with."""

    def lines(self, sealing: Sealing) -> list[str]:
        """Say it to a person."""
        report_lines = [f"{self.counts[each]} {each}" for each in ResealOutcome]
        spare = [key_id for key_id in sealing.key_ids if key_id not in {*self.in_use, sealing.newest}]
        if self.counts[ResealOutcome.FAILED]:
            report_lines.append("The failures are named above; keep all sealing keys until they are fixed.")
        elif spare:
            report_lines.append(
                f"No longer needed: {', '.join(spare)}. Forms that are open may be, for another hour."
            )
        return report_lines


async def reseal(kube: KubeClient, sealing: Sealing) -> ResealReport:
    """Go through all Senders. Raises ``ApiError`` when they can't be listed."""
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
        report = await reseal(kube, sealing)
    print("\n".join(report.lines(sealing)))
    return 1 if report.counts[ResealOutcome.FAILED] else 0


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run as a program; return the exit status."""
    settings = load(ResealSettings, argv, environ)
    logs.configure(settings.log_level, settings.log_format)
    try:
        return asyncio.run(run(settings))
    except (SealingKeysInvalid, NotConfigured, ApiError) as trouble:
        # The person who started the command can fix this error: no stack trace.
        _log.critical("nothing can be resealed: %s", trouble)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
