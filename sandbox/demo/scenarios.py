"""
The story of the demo, until every event has ended: one envelope for each thing that can happen to it.

Callbacks flow: stand-in eSAW -> receiver -> API server -> controller. Envelopes without a callback, from
before Counterfoil, are found by an Import. This module makes envelopes, completes them and waits;
``checks`` decides afterwards whether the result is right.
"""

import asyncio
import os
import sys
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from sandbox.controlplane.processes import CommandResult, run
from sandbox.demo import consent
from sandbox.demo.archives import DemoArchive, WormArchive
from sandbox.demo.envelopes import FINAL_PHASES, DemoEnvelopes
from sandbox.demo.output import DemoOutput, shell_command
from sandbox.environment.local import LocalEnvironment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import CallbackUrls, DocumentSpec, StandIn, User
from sandbox.servers.plain_http import plain_http

NAMESPACE = "demo"
METADATA = "<contract><customer>Rossi &amp; Figli</customer><number>2026-0815</number></contract>"
STAFF = "Human resources"
STAFF_METADATA = f"<contract><customer>{STAFF}</customer><number>2026-0816</number></contract>"
"""Of the contract that a route of Acme leads into the second archive."""
IMPORT = "old-stock"
OLD_ENVELOPES = 3
"""Number of envelopes from before Counterfoil."""
OLD_AGE = timedelta(days=400)
DUPLICATES = 30
"""Number of times that one callback is repeated."""

CONTRACT = DocumentSpec(name="Vertrag Müller/Rossi 2026.pdf")
NAMES = {
    "completed": "Rental contract",
    "rejected": "Loan offer",
    "no audit trail": "Works agreement",
    "deleted": "Old quotation",
    "forged": "(forged id)",
    "duplicates": "Supply contract",
    "routed": "Employment contract",
    "second archive": "Insurance policy",
    "revoked key": "Power of attorney",
}
"""Name of the envelope by its part in the story."""


@dataclass
class DemoRun:
    """The parts of a demo run."""

    local_environment: LocalEnvironment
    output: DemoOutput
    second: DemoArchive
    """The archive that Globex files into."""
    worm: WormArchive
    """The archive of Globex's copies."""
    folder: Path
    """The archive that Acme files into."""
    public_key: Path
    """The key that shows who sealed the manifests."""
    receiver: CounterfoilProcess
    controller: CounterfoilProcess
    consent_demo: consent.ConsentDemo
    anna: User
    ben: User
    envelopes: DemoEnvelopes
    deviations: list[str] = field(default_factory=list)
    """The facts that the check of eSAW found to deviate."""
    ids: dict[str, str] = field(default_factory=dict)
    """Envelope id by its part in the story."""
    old: list[str] = field(default_factory=list)
    """Ids of the envelopes from before Counterfoil."""

    @property
    def esaw(self) -> StandIn:
        """The stand-in eSAW."""
        return self.local_environment.esaw

    def add(self, part: str, envelope: str, sender: User | None) -> str:
        """Give an envelope its part in the story; return its id."""
        self.ids[part] = envelope
        return self.envelopes.add(
            envelope, NAMES[part], f"{sender.given_name} {sender.surname}" if sender else "-"
        )


def callback_url(demo_run: DemoRun, organization: str, envelope: str) -> str:
    """Return the URL of a callback about a finished envelope, with its token."""
    url = demo_run.local_environment.callback_url(organization, demo_run.receiver)
    return url.replace("##EnvelopeId##", envelope).replace("##Action##", "envelopeFinished")


def another_envelope(sender: User, callback: str) -> bytes:
    """Return the request by which the stand-in sends one more envelope of this user."""
    return msgspec.json.encode(
        {
            "sender": sender,
            "name": "One more contract",
            "status": "Active",
            "metadata": METADATA,
            "callbacks": CallbackUrls(envelope=callback),
        }
    )


async def run_scenarios(demo_run: DemoRun) -> None:
    """Play the story; return when every event of it has ended. ``show_import`` ends its Import."""
    async with asyncio.TaskGroup() as group:
        # The Import works while everything else happens.
        group.create_task(_import_old_envelopes(demo_run))
        _use_callbacks(demo_run, "acme")
        await _complete_contract(demo_run)
        await _complete_others(demo_run)
    await _replace_key(demo_run)
    await demo_run.esaw.callbacks_settled()

    # What is missing is decided by eSAW alone, so this check deviates in one line.
    demo_run.output.step("kubectl counterfoil check: does this eSAW behave as Counterfoil assumes?")
    checked = await _plugin(demo_run, "check", "acme", "--envelope", demo_run.ids["no audit trail"])
    words = [line.split() for line in checked.out.splitlines()]
    demo_run.deviations += [each[1] for each in words if each[:1] == ["deviates"]]
    demo_run.output.lines(f"          It deviates in: {', '.join(demo_run.deviations) or 'nothing'}")
    await _plugin(demo_run, "why", demo_run.ids["no audit trail"])


async def _import_old_envelopes(demo_run: DemoRun) -> None:
    """Create an Import of envelopes that were finished long ago; nobody calls back about them."""
    demo_run.output.step(
        f"kubectl counterfoil import: {OLD_ENVELOPES} envelopes are from before Counterfoil came"
    )
    for number in range(OLD_ENVELOPES):
        envelope = demo_run.esaw.add_envelope(
            sender=demo_run.anna,
            name=f"Old contract {number + 1}",
            documents=[CONTRACT],
            metadata=METADATA,
            sent_ago=OLD_AGE + timedelta(days=number),
        )
        demo_run.old.append(demo_run.envelopes.add(envelope, f"Old contract {number + 1}", "Anna Kofler"))
    first, last = (f"{datetime.now(UTC) - OLD_AGE + timedelta(days=days):%Y-%m-%d}" for days in (-7, 7))
    await _plugin(
        demo_run, "import", "acme", "--name", IMPORT, "--sender", "anna", "--from", first, "--until", last
    )


async def show_import(demo_run: DemoRun) -> None:
    """Wait until the Import of the old envelopes is complete, and print its result."""
    demo_run.output.step("The Import ends when all its envelopes are archived")
    watched = await _plugin(demo_run, "import", IMPORT, "--watch")
    progress = [line for line in watched.out.splitlines() if " % of the search: " in line]
    demo_run.output.lines(*(f"          {line.strip()}" for line in progress[-1:]))
    await demo_run.envelopes.wait_for(FINAL_PHASES, demo_run.old)


def _use_callbacks(demo_run: DemoRun, organization: str) -> None:
    url = demo_run.local_environment.callback_url(organization, demo_run.receiver)
    demo_run.esaw.set_default_callbacks(completed=url, status_change=None)


async def _complete_contract(demo_run: DemoRun) -> None:
    demo_run.output.step("Everybody signs a contract: eSAW calls back")
    envelope = demo_run.esaw.add_envelope(
        sender=demo_run.anna,
        name=NAMES["completed"],
        status="Active",
        documents=[CONTRACT, DocumentSpec(name="../../etc/passwd.pdf")],
        attachments=[DocumentSpec(name="floor plan.png")],
        legal_documents=[DocumentSpec(name="CA22D.pdf")],
        audit_trail_per_document=True,
        metadata=METADATA,
    )
    await demo_run.esaw.complete(demo_run.add("completed", envelope, demo_run.anna))


async def _complete_others(demo_run: DemoRun) -> None:
    esaw, anna = demo_run.esaw, demo_run.anna
    demo_run.output.step(
        f"More callbacks: rejected, without audit trail, deleted, forged, and one {DUPLICATES} times at once"
    )

    def make(part: str, metadata: str = METADATA, **how: Any) -> str:
        made = esaw.add_envelope(sender=anna, name=NAMES[part], metadata=metadata, **how)
        return demo_run.add(part, made, anna)

    await esaw.reject(make("rejected", status="Active"))
    await esaw.complete(make("no audit trail", status="Active", documents=[CONTRACT], audit_trail=False))
    deleted = make("deleted", status="Completed")
    await esaw.delete(deleted)
    await esaw.repeat_callback(deleted)
    async with plain_http() as http:
        await http.get(callback_url(demo_run, "acme", demo_run.add("forged", str(uuid.uuid4()), None)))
    await esaw.repeat_callback(make("duplicates", status="Completed", documents=[CONTRACT]), times=DUPLICATES)
    demo_run.output.step(f"A contract with the tag {STAFF}: a route of Acme leads into another archive")
    await esaw.complete(make("routed", STAFF_METADATA, status="Active", documents=[CONTRACT]))


async def _replace_key(demo_run: DemoRun) -> None:
    esaw, ben = demo_run.esaw, demo_run.ben
    demo_run.output.step(f"Globex archives into another place: {demo_run.second.title}")
    _use_callbacks(demo_run, "globex")

    def make(part: str) -> str:
        made = esaw.add_envelope(
            sender=ben, name=NAMES[part], status="Active", documents=[CONTRACT], metadata=METADATA
        )
        return demo_run.add(part, made, ben)

    await esaw.complete(make("second archive"))
    await demo_run.envelopes.wait_for(FINAL_PHASES, demo_run.ids.values())

    demo_run.output.step(
        "The key of its sender Ben is revoked; then everybody signs one more of his envelopes"
    )
    esaw.revoke(ben)
    await esaw.complete(make("revoked key"))
    await demo_run.envelopes.wait_for({"AwaitingConsent"}, [demo_run.ids["revoked key"]])

    demo_run.output.step("Ben's Secret gets a new key: what waited for the key continues automatically")
    await demo_run.local_environment.secret("ben-key", "token", token=esaw.new_token(ben))
    await demo_run.envelopes.wait_for(FINAL_PHASES, demo_run.ids.values())


async def _plugin(demo_run: DemoRun, *arguments: str) -> CommandResult:
    """Run ``kubectl counterfoil`` as an administrator; its output is a detail."""
    plane = demo_run.local_environment.plane
    done = await run(
        [sys.executable, "-m", "counterfoil.cli.plugin.entry_point", "-n", NAMESPACE, *arguments],
        environment={**os.environ, "KUBECONFIG": str(plane.kubeconfig)},
    )
    printed = (done.out + done.err).rstrip().splitlines()
    demo_run.output.detail(f"$ {shell_command('kubectl', 'counterfoil', *arguments)}", *printed)
    return done
