"""
The accounts of a running soak test: every event is judged by the campaign's checker when it is removed, or at
the end. What was judged is dropped, also from the archive's folder, so that the servers do not grow.
"""

import asyncio
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from verification.chaos.checker import Evidence, violations
from verification.chaos.evidence import (
    DeleteWatch,
    known_secrets,
    responsible,
    served_bodies,
    served_files,
)
from verification.chaos.places import read_archive
from verification.chaos.soak.ledger import Event, Ledger, envelope_of
from verification.chaos.stage import Stage, persist

INTERVAL_SECONDS: Final = 5.0
"""Interval between two lists of all events; much shorter than the time to live of a finished one."""


@dataclass
class Accounts:
    """Every envelope, every callback, and the result of it."""

    stage: Stage
    deletes: DeleteWatch
    ledger: Ledger = field(default_factory=Ledger)
    violations: list[str] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)
    """Envelopes that eSAW does not know, about which a callback was answered 200."""
    _served: dict[str, set[str]] = field(default_factory=dict)
    """SHA-256 of the bodies that eSAW served, by file id."""
    _responsible: Mapping[str, str] = field(default_factory=responsible)

    async def run(self) -> None:
        """Keep the accounts until cancelled."""
        while True:
            await self.update()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def update(self) -> None:
        """Take the list of all events, and judge those that were removed."""
        self._read_passages()
        try:
            listed = await self.stage.environment.listed("envelopeevents")
        except Exception:  # the API server is down
            return
        self._judge(self.ledger.update(listed))

    def answered(self) -> set[str]:
        """Return the envelopes about which a callback was answered 200."""
        return {each.envelope_id for each in self.stage.esaw.callbacks() if each.status == 200} | self.foreign

    def unfinished(self) -> list[str]:
        """Return the envelopes whose event has not ended."""
        # A callback about an envelope that a person deleted is not repeated until it is answered 200.
        never_called = self.stage.removed - self.answered()
        return self.ledger.unfinished({*self.stage.envelopes, *self.foreign} - never_called)

    async def close(self, unsettled: Iterable[str]) -> list[str]:
        """Judge all that is left; return all violations."""
        self._read_passages()
        kinds = "organizations,senders,archives,events,leases,configmaps"
        get = self.stage.environment.kubectl
        objects = await persist(lambda: get("get", kinds, "-o", "json"))
        logs = {each.name: each for each in self.stage.environment.folder.glob("*.log")}
        texts = {name: path.read_text(errors="replace") for name, path in logs.items()}
        never_removed = [each for each in self.stage.envelopes if each not in self.stage.removed]
        self._judge(
            self.ledger.close_all(),
            envelopes=never_removed,
            archive=read_archive(self.stage.archive),
            texts={**texts, "objects": objects},
            secrets=frozenset(known_secrets(self.stage)),
            crashes=tuple(self.stage.crashes),
            unsettled=tuple(unsettled),
        )
        return [*self.violations, *self.ledger.violations]

    def _read_passages(self) -> None:
        """Take what the proxies recorded; their records would grow."""
        for file_id, bodies in served_bodies(self.stage.ways["esaw"].passages).items():
            self._served.setdefault(file_id, set()).update(bodies)
        for way in self.stage.ways.values():
            # Requests in progress have no answer yet and are read later.
            way.passages[:] = [each for each in way.passages if not each.over]

    def _judge(self, events: list[Event], *, envelopes: Iterable[str] = (), **evidence: Any) -> None:
        """Judge the events and these envelopes, and drop all that is kept about them."""
        named = {*map(envelope_of, events), *envelopes}
        own = sorted(named & set(self.stage.envelopes))
        esaw, deletes = self.stage.esaw, self.deletes.deletes
        archive: dict[str, bytes] = {}
        for each in own:
            archive.update(read_archive(self.stage.archive, each))
        found = violations(
            Evidence(
                **{
                    "policy": self.stage.plan.policy,
                    "envelopes": {each: served_files(esaw, each, self._served) for each in own},
                    "gone": frozenset(each for each in own if not esaw.exists(each)),
                    "removed": frozenset(self.stage.removed),
                    "deletes": tuple(each for each in deletes if each.envelope in named),
                    "successes": {
                        each: sum(call.outcome == 200 for call in esaw.delete_calls(each)) for each in own
                    },
                    "archive": archive,
                    "events": tuple(events),
                    "answered": frozenset(named & self.answered()),
                    "mails": (),
                    "texts": {},
                    "secrets": frozenset(),
                    "responsible": self._responsible,
                    # Mails are counted and not judged: one problem can come again and again in an hour.
                    "interruptions": 1,
                    **evidence,
                }
            )
        )
        self.violations += found
        self._keep([each for each in events if any(envelope_of(each) in text for text in found)])
        self._drop(set(own))

    def _keep(self, events: Iterable[Event]) -> None:
        """Write events with a violation, and the deletes that reached eSAW, beside the logs."""
        esaw = self.stage.esaw
        kept = [
            {
                "event": each,
                "deletes": [
                    f"{call.time} {call.outcome} {call.status}" for call in esaw.delete_calls(envelope)
                ],
            }
            for each in events
            if (envelope := envelope_of(each)) in self.stage.envelopes
        ]
        with (self.stage.environment.folder / "violations.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(each)}\n" for each in kept)

    def _drop(self, envelopes: set[str]) -> None:
        self.stage.envelopes[:] = [each for each in self.stage.envelopes if each not in envelopes]
        self.deletes.deletes[:] = [each for each in self.deletes.deletes if each.envelope not in envelopes]
        for envelope in envelopes:
            for file in self.stage.esaw.files(envelope):
                self._served.pop(file.file_id, None)
            for folder in self.stage.archive.glob(f"*/{envelope}"):
                shutil.rmtree(folder)
