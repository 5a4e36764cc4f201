"""
``python -m counterfoil.reseal``: seal every consented Sender's key anew, with the newest sealing key.

Sender by Sender: open the Secret, seal, write it back on condition that nobody wrote meanwhile (a consent is newer and
sealed with the newest key anyway), then note the key id in the Sender's status. It may be broken off and started again at any
time; what is done already is passed over, and everything works meanwhile, since all keys open. In the end it says how many,
and which sealing keys nobody needs any more.
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
from counterfoil.cluster import ApiProblem, Cluster, Conflict, NotFound, Unconfigured, connect
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

log = logging.getLogger(__name__)

TRIES = 5
"""How often one Secret is read and written anew because somebody else was quicker."""


class Outcome(StrEnum):
    """What became of one Sender's key."""

    RESEALED = "resealed"
    NEWEST = "sealed with the newest key already"
    NONE = "without a sealed key"
    FAILED = "failed"


@dataclass
class Report:
    """What a run did."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    in_use: set[str] = field(default_factory=set)
    """Ids of the sealing keys that something is still sealed with."""

    def lines(self, sealing: Sealing) -> list[str]:
        """Say it to a person."""
        told = [f"{self.counts[each]} {each}" for each in Outcome]
        spare = [key_id for key_id in sealing.key_ids if key_id not in {*self.in_use, sealing.newest}]
        if self.counts[Outcome.FAILED]:
            told.append("What failed is named above; until it is mended, keep all sealing keys.")
        elif spare:
            told.append(
                f"No longer needed: {', '.join(spare)}. Forms that are open may be, for another hour."
            )
        return told


async def reseal(cluster: Cluster, sealing: Sealing) -> Report:
    """Go through all Senders. Raises ``ApiProblem`` when they can't be listed."""
    report = Report()
    async for raw in cluster.list(Sender):
        try:
            sender = Sender.parse(raw)
            outcome = await _one(cluster, sealing, sender, report)
        except (ResourceInvalid, ApiProblem, SealBroken, SealKeyUnknown) as problem:
            log.error("%s", problem, extra={"sender": raw["metadata"]["name"]})  # noqa: TRY400 - the message says it all
            outcome = Outcome.FAILED
        report.counts[outcome] += 1
    return report


async def _one(cluster: Cluster, sealing: Sealing, sender: Sender, report: Report) -> Outcome:
    if sender.spec.token_secret_ref is not None:
        return Outcome.NONE
    for _ in range(TRIES):
        try:
            secret = await cluster.whole_secret(sender.name)
        except NotFound:
            return Outcome.NONE
        if secret.get("type") != SECRET_TYPE:
            return Outcome.NONE
        data = base64.b64decode((secret.get("data") or {}).get(SECRET_KEY, ""))
        if key_id_of(data) == sealing.newest:
            report.in_use.add(sealing.newest)
            await _tell(cluster, sender, sealing.newest)
            return Outcome.NEWEST
        sealed = sealing.seal(sealing.open(data, cluster.namespace, sender), cluster.namespace, sender)
        changes = {
            "metadata": {"resourceVersion": secret["metadata"]["resourceVersion"]},
            "data": {SECRET_KEY: base64.b64encode(sealed.data).decode()},
        }
        try:
            await cluster.patch_secret(sender.name, changes)
        except Conflict:
            continue
        report.in_use.add(sealed.key_id)
        await _tell(cluster, sender, sealed.key_id)
        return Outcome.RESEALED
    log.error("somebody else writes this Secret all the time", extra={"sender": sender.name})
    return Outcome.FAILED


async def _tell(cluster: Cluster, sender: Sender, key_id: str) -> None:
    """Note the key id, if that is news; also after a run that was broken off just before."""
    if sender.status.key is not None and sender.status.key.key_id != key_id:
        await cluster.patch_status(Sender, sender.name, {"key": {"keyId": key_id}}, resource_version=None)


async def run(settings: ResealSettings) -> int:
    """Reseal everything; return the exit status."""
    if settings.sealing_keys is None:
        raise SealingKeysInvalid("COUNTERFOIL_SEALING_KEYS is not set; name the folder of the sealing keys.")
    sealing = Sealing(settings.sealing_keys)
    async with connect(namespace=settings.namespace) as cluster:
        report = await reseal(cluster, sealing)
    print("\n".join(report.lines(sealing)))
    return 1 if report.counts[Outcome.FAILED] else 0


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run as a program; return the exit status."""
    settings = load(ResealSettings, argv, environ)
    logs.configure(settings.log_level, settings.log_format)
    try:
        return asyncio.run(run(settings))
    except (SealingKeysInvalid, Unconfigured, ApiProblem) as trouble:
        # What the person who started it can mend: no stack trace.
        log.critical("nothing can be resealed: %s", trouble)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
