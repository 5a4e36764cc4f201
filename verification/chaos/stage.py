"""
The processes of a round: receivers, controllers, eSAW and the mail server, with a proxy on each connection.

A process that a fault killed is started again, as a node does. One that ends without that is a violation.
"""

import asyncio
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sandbox.controlplane import rbac
from sandbox.controlplane.kubectl import KubectlError
from sandbox.controlplane.processes import run
from sandbox.environment.api_proxy import api_proxy, kubeconfig_through
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess, ProcessNotReady
from sandbox.esaw import Behaviour, CallbackUrls, DocumentSpec, StandIn, User
from sandbox.servers.plain_http import plain_http
from sandbox.servers.proxies import Passage, Proxy, Ticks, operation_of
from sandbox.servers.smtp import SmtpServer
from verification.chaos import copies as copying
from verification.chaos import neighbour as neighbours
from verification.chaos import senders as people
from verification.chaos.checker import FINAL, FIRST, OCCUPIED, CopiesInForce, Decision
from verification.chaos.neighbour import Neighbour
from verification.chaos.places import Place, Servers, folder_place, read_archive, read_named, server_place
from verification.chaos.plan import AREAS, FOLDER, EnvelopeOrder, Round
from verification.chaos.planted import Source, planted_files
from verification.chaos.rotation import Rotation
from verification.chaos.senders import Senders

ADMINISTRATOR = "ops@acme.example"
LEASES = {"lease_duration": "10s", "renew_deadline": "8s", "retry_period": "1s"}
"""Short, so that a stopped controller outlives them, and long enough for a busy machine."""
PAGES = {
    "attempt": "3s",
    # All people come from one address.
    **dict.fromkeys(("address_rate", "page_rate"), "1000"),
    **dict.fromkeys(("address_burst", "page_burst"), "10000"),
}
"""Settings of the pages: attempts that a round outlives."""
READY = ("archive/dms", "organization/acme", f"archive/{neighbours.NAME}", f"organization/{neighbours.NAME}")
"""Objects that are Ready before a round begins."""
EVIDENCE_WAIT = "5s"
"""Longer than eSAW's list ever lacks files in a round."""
READY_ATTEMPTS = 5
"""Number of times that the timeout for a process to become ready may pass: the machine may be busy."""
PERSIST_ATTEMPTS = 60
"""Number of attempts for what the API server must do, one second apart."""
DISCOVERY_PATH = re.compile(r"/api(/v1)?|/apis(/[^/]+){0,2}")
REQUEST = "counterfoil.dev/request"
"""The label with which a person requests something."""
DISK = "disk"
DISK_BYTES = 512 << 20
RESTART_SECONDS = 0.2
"""Interval between checks for processes that must be started again."""
KEY_SECONDS = 60.0
"""Timeout for the events of the envelopes that drafts became, to show whether the keys of senders work."""
IMPORT_SECONDS = 180.0
"""Timeout for an Import that makes the missing copies."""
PAUSE_SECONDS = 1.0
MEMORY_SECONDS = 1.0
"""Interval between samples of the memory."""


@dataclass(eq=False)
class Stage:
    """The running processes of one round; made by ``opened``."""

    plan: Round
    servers: Servers
    environment: LocalEnvironment
    smtp: SmtpServer
    ways: dict[str, Proxy]
    """The proxies before the API server, eSAW, the archive and the server of the copies."""
    archives: dict[str, Place]
    """The Archives of the originals, ``dms`` first."""
    copies: dict[str, Place]
    """The Archives of the copies, by name; empty: there are no copies."""
    anna: User
    tokens: list[str]
    """All keys of the sender that there ever were."""
    behaviour: Behaviour
    """The switches of eSAW."""
    ticks: Ticks
    """The count of everything that passes a proxy."""
    forged: bytes
    """A document with an intact signature of eSAW, of another user's envelope."""
    seal: Ed25519PrivateKey | None
    """The key with which controllers seal manifests."""
    neighbour: Neighbour
    """The second Organization."""
    common: dict[str, Any]
    """The same settings of the first Organization and of that of the people who send drafts."""
    controllers: list[CounterfoilProcess] = field(default_factory=list)
    receivers: list[CounterfoilProcess] = field(default_factory=list)
    senders: Senders | None = None
    """The people who send drafts; None: there are no pages."""
    rotation: Rotation | None = None
    """The rotation of the sealing keys; None: there are no keys of senders."""
    envelopes: list[str] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    """Envelopes that a person deleted in eSAW."""
    planted: dict[str, bytes] = field(default_factory=dict)
    """Files that another program wrote into an archive, by their path as in ``read_originals`` and
    ``read_copies``."""
    copies_in_force: list[CopiesInForce] = field(default_factory=list)
    """The values of ``spec.copies`` of the first Organization, in order."""
    changed_routes: int = 0
    """Number of times that a person changed the routes."""
    areas: dict[str, str] = field(default_factory=dict)
    """The Archive to which the tag of an envelope leads, by envelope; empty without routes."""
    imports: int = 0
    """Number of Imports that a person created."""
    decisions: list[Decision] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    """Maximum memory of each process with its workers, in bytes."""
    restores: int = 0
    """Number of times that the API server was restored from an older state."""
    gone_at_mail: list[frozenset[str]] = field(default_factory=list)
    """For each mail, the envelopes that were not in eSAW when it arrived."""
    crashes: list[str] = field(default_factory=list)
    """Processes that ended without a fault."""
    _killed: set[str] = field(default_factory=set)

    @property
    def esaw(self) -> StandIn:
        """ESAW itself."""
        return self.environment.esaw

    @property
    def archive(self) -> Path:
        """The folder in which the first Archive keeps its files."""
        return self.archives[FIRST].root

    @property
    def copy_server(self) -> str:
        """The kind of the Archives of copies. Raises ``LookupError`` without copies."""
        if self.plan.copies is None:
            raise LookupError("the round has no copies")
        return self.plan.copies.server

    @property
    def other_roots(self) -> dict[str, Path]:
        """The folders of the other Archives of originals, by name."""
        return {name: place.root for name, place in self.archives.items() if name != FIRST}

    @property
    def copy_roots(self) -> dict[str, Path]:
        """The folders of the Archives of copies, by name."""
        return {name: place.root for name, place in self.copies.items()}

    # Processes

    @property
    def pages(self) -> list[CounterfoilProcess]:
        """The pages; none in rounds without drafts."""
        return [] if self.senders is None else [self.senders.pages]

    @property
    def running(self) -> list[CounterfoilProcess]:
        """All processes that must run."""
        return [*self.controllers, *self.receivers, *self.pages]

    async def start_controllers(self, count: int, shards: int, generation: int = 0) -> None:
        """Start controllers for this number of shards, beside those that run."""
        self.controllers = [
            await self._controller(f"controller-{generation}-{number}", shards) for number in range(count)
        ]

    async def _controller(self, name: str, shards: int) -> CounterfoilProcess:
        return self._process(
            name,
            ["controller"],
            await persist(lambda: self._kubeconfig("controller")),
            {
                "identity": name,
                "key_confirmation": "1s",
                "shards": str(shards),
                **self._manifest_key(),
                **LEASES,
            },
        )

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the key that verifies seals; empty without seals."""
        return b"" if self.seal is None else self.seal.public_key().public_bytes_raw()

    def _manifest_key(self) -> dict[str, str]:
        if self.seal is None:
            return {}
        path = self.environment.folder / "manifest-key.pem"
        path.write_bytes(pem(self.seal))
        return {"manifest_key": str(path)}

    async def start_receivers(self) -> None:
        """Start the receivers."""
        self.receivers = [
            self._process(f"receiver-{each}", ["webhook", "receiver"], await self._kubeconfig("receiver"), {})
            for each in range(self.plan.receivers)
        ]

    async def start_senders(self) -> None:
        """Start the pages, and make the drafts and their owners."""
        if not self.plan.drafts:
            return
        pages = self._process("pages", ["webhook", "pages"], await self._kubeconfig("pages"), PAGES)
        way, esaw = self.ways["esaw"], self.esaw
        app = esaw.register_app(
            name="Counterfoil", redirect_uris=[f"{pages.public}/oauth/{people.NAME}/return"]
        )
        await self.environment.secret(
            f"{people.NAME}-oauth", "oauth", clientSecret=app.client_secret, origin=way.url
        )
        self.senders = Senders(esaw, way, pages, app, inbox=f"{esaw.url}/Inbox/Index")
        await self.environment.apply(*rbac.service_account_with_rules("reseal", rbac.RESEAL))
        self.rotation = Rotation(self.environment, await self._kubeconfig("reseal"))
        await self.environment.organization(
            people.NAME, archive=FIRST, **self.common, **people.spec_of(self.senders)
        )
        self.senders.esaw.set_default_callbacks(
            completed=self.environment.callback_url(people.NAME, self.receivers[0]), status_change=None
        )
        self.senders.add_drafts(self.plan.drafts)

    async def consent_again(self, user: User) -> bool:
        """Let a person follow the link of a mail; return whether the consent is stored, or was never
        given."""
        assert self.senders is not None  # noqa: S101 - only senders leave
        for sender in await persist(lambda: self.environment.listed("senders")):
            if sender["spec"]["userID"] == user.user_id:
                return await self.senders.consent(user, sender["metadata"]["name"])
        return True

    async def return_senders(self) -> tuple[str, ...]:
        """Let people come back after the faults; return what they could not do. Before that, the keys of
        those who have not left are used with the newest sealing key alone."""
        if self.senders is None or self.rotation is None:
            return ()
        problems = [*await self.rotation.end(), *await self._use_keys(self.senders)]
        problems += await self.senders.return_all(restored=self.restores > 0)
        refused = [each for each in self.senders.people if not await self.consent_again(each)]
        return (*problems, *(f"consent of {each.email}: it can't be given" for each in refused))

    async def _use_keys(self, senders: Senders) -> tuple[str, ...]:
        """Let the first envelope of each draft end in eSAW; return the senders whose key does not work,
        although it was never refused."""
        recorded = {
            each["metadata"]["name"] for each in await persist(lambda: self.environment.listed("envelopes"))
        }
        owners = {each: owner for each, owner in senders.first_envelopes().items() if each in recorded}
        for envelope in owners:
            self.envelopes.append(envelope)
            await self.esaw.complete(envelope)
        deadline = time.monotonic() + KEY_SECONDS
        phases: dict[str, str] = {}
        while time.monotonic() < deadline and not phases.keys() >= owners.keys():
            await asyncio.sleep(PAUSE_SECONDS)
            phases = {
                each["spec"]["envelopeID"]: phase
                for each in await persist(lambda: self.environment.listed("envelopeevents"))
                if (phase := each.get("status", {}).get("phase")) in (*FINAL, "AwaitingConsent")
            }
        return tuple(
            f"envelope {envelope}: the key of {owner.email} does not work"
            for envelope, owner in owners.items()
            if phases.get(envelope) == "AwaitingConsent" and not self.dead_keys()[owner.email]
        )

    def _process(
        self, name: str, module: list[str], kubeconfig: Path, settings: dict[str, str]
    ) -> CounterfoilProcess:
        clock = self._clock_file(name)
        process = CounterfoilProcess.of(
            ["sandbox.environment.set_clock", str(clock), *module],
            kubeconfig=kubeconfig,
            namespace=self.environment.namespace,
            log=self.environment.folder / f"{name}.log",
            settings={"sealing_keys": str(self.environment.sealing_keys), **settings},
        )
        process.start_unready()
        self.environment.processes.append(process)
        return process

    async def _kubeconfig(self, account: str) -> Path:
        environment = self.environment
        path = environment.folder / f"{account}.kubeconfig"
        return await kubeconfig_through(
            self.ways["api"], self.servers.plane, account, environment.namespace, path
        )

    def client_of(self, passage: Passage) -> CounterfoilProcess | None:
        """Return the process that sent a request."""
        for process in self.running:
            with suppress(psutil.Error):
                if not process.server.ended and any(
                    each.laddr.port == passage.port
                    for each in psutil.Process(process.pid).net_connections(kind="tcp")
                ):
                    return process
        return None

    def kill(self, process: CounterfoilProcess) -> None:
        """SIGKILL; it is started again."""
        self._killed.add(process.name)
        process.kill()

    def _clock_file(self, name: str) -> Path:
        return self.environment.folder / f"{name}.clock"

    def set_clock(self, process: CounterfoilProcess, seconds: float) -> None:
        """Set the clock of a process by this many seconds."""
        replacement = self._clock_file(f"{process.name}-next")
        replacement.write_text(str(seconds))
        replacement.rename(self._clock_file(process.name))

    def correct_clocks(self) -> None:
        """Set all clocks right."""
        for process in self.environment.processes:
            self._clock_file(process.name).unlink(missing_ok=True)

    async def replace_controllers(self, shards: int, generation: int) -> None:
        """Roll out controllers with another number of shards: new ones are ready before old ones stop."""
        old = self.controllers
        await self.start_controllers(max(len(old), shards), shards, generation)
        with suppress(ProcessNotReady):  # a fault killed it; it is ready later
            await asyncio.gather(*(_ready(each) for each in self.controllers))
        await asyncio.gather(*(each.stop() for each in old))

    def resume(self) -> None:
        """SIGCONT for all."""
        for process in self.environment.processes:
            if not process.server.ended:
                os.kill(process.pid, signal.SIGCONT)

    async def supervise(self) -> None:
        """Start again all that ended; never returns."""
        while True:
            for process in self.running:
                if process.server.ended:
                    if process.name not in self._killed:
                        self.crashes.append(f"{process.name} ended with {process.server.exit_code}")
                    self._killed.discard(process.name)
                    process.start_unready()
            await asyncio.sleep(RESTART_SECONDS)

    async def sample_memory(self) -> None:
        """Record the memory of each process; never returns."""
        while True:
            for process in self.running:
                with suppress(psutil.Error):
                    size = await asyncio.to_thread(used_memory, process.pid)
                    self.memory[process.name] = max(size, self.memory.get(process.name, 0))
            await asyncio.sleep(MEMORY_SECONDS)

    # Mails

    async def record_mail(self) -> None:
        """Record for each new mail which envelopes are no longer in eSAW."""
        gone = frozenset(each for each in self.envelopes if not self.esaw.exists(each))
        self.gone_at_mail += [gone] * (len(self.smtp.mails) - len(self.gone_at_mail))

    @property
    def owners(self) -> list[User]:
        """All people of the first eSAW who have keys."""
        return [self.anna, *(self.senders.people if self.senders is not None else ())]

    def dead_keys(self) -> dict[str, int]:
        """Return the number of keys that died, by the address of their owner. An older state of the API
        server can have one that was replaced."""
        return {each.email: self.esaw.revocations(each) + self.restores for each in self.owners}

    # The disk of an archive in a folder

    @property
    def has_own_disk(self) -> bool:
        """Whether the archive has its own disk, which can be filled."""
        return self.archive.parent.is_mount()

    def fill_disk(self) -> None:
        """Leave no byte of it."""
        disk, taken = os.statvfs(self.archive), 0
        size = disk.f_bavail * disk.f_frsize
        with (self.archive.parent / "other").open("wb") as other:
            while size >= disk.f_frsize:
                try:
                    os.posix_fallocate(other.fileno(), taken, size)
                    taken += size
                except OSError as problem:
                    if problem.errno != errno.ENOSPC:
                        raise
                    # Less is left, or a controller wrote a file meanwhile.
                    size //= 2

    def free_disk(self) -> None:
        """Remove the other's file."""
        (self.archive.parent / "other").unlink(missing_ok=True)

    # Envelopes

    async def send_envelopes(self) -> None:
        """Let every envelope of the plan end in eSAW, which then calls back until it is answered 200."""
        for number, order in enumerate(self.plan.envelopes):
            await self.send_envelope(order, self.receivers[number % len(self.receivers)])

    async def send_envelope(self, order: EnvelopeOrder, receiver: CounterfoilProcess) -> str:
        """Let an envelope end in eSAW, which then calls this receiver until it is answered 200; return its
        id."""
        envelope = self.esaw.add_envelope(
            sender=self.anna,
            status="Active",
            documents=[
                DocumentSpec(name=f"contract-{each}.pdf", size=size)
                for each, size in enumerate(order.sizes, 1)
            ],
            legal_documents=[
                DocumentSpec(name=f"terms-{each}.pdf", size=1000) for each in range(order.legal)
            ],
            audit_trail_differs=order.trail_differs,
            metadata=copying.metadata_of(order.area) if order.area else None,
            callbacks=CallbackUrls(envelope=self.environment.callback_url("acme", receiver)),
        )
        if order.planted:
            # Where it comes without a change of the routes.
            is_routed = order.area == AREAS[0]
            await self._plant(envelope, order.planted, copying.ROUTED if is_routed else FIRST)
        if order.planted_copy:
            await self._plant(envelope, order.planted_copy, list(self.copies)[len(self.envelopes) % 2])
        if order.area:
            self.areas[envelope] = copying.ROUTED if order.area == AREAS[0] else FIRST
        # Only now, since a fault deletes any of them, and an envelope that is gone cannot end.
        self.envelopes.append(envelope)
        await (self.esaw.expire(envelope) if order.expired else self.esaw.complete(envelope))
        return envelope

    async def _plant(self, envelope: str, kind: str, archive: str) -> None:
        """Write files into the folder of an envelope in an Archive before it ends, as another program
        does."""
        source = Source(
            envelope=envelope,
            organization="acme",
            namespace=self.environment.namespace,
            origin=self.ways["esaw"].url,
            key_id=hashlib.sha256(self.public_key).hexdigest()[:16],
        )
        documents = {each.file_id: each.name for each in self.esaw.files(envelope) if each.kind == "Document"}
        files = planted_files(kind, source, documents, self.forged)
        for path, content in files.items():
            await persist(partial(self._place(archive).write, path, content))
        self.planted |= {path if archive == FIRST else f"{archive}/{path}": files[path] for path in files}

    def _place(self, archive: str) -> Place:
        return self.archives.get(archive) or self.copies[archive]

    async def _remove(self, path: str) -> None:
        """Remove a file, named as in ``planted``."""
        archive, _, rest = path.partition("/")
        is_named = archive in self.copies or archive in self.other_roots
        place, name = (self._place(archive), rest) if is_named else (self.archives[FIRST], path)
        await persist(partial(place.write, name, None))
        self.planted.pop(path, None)

    def read_originals(self, envelope: str | None = None) -> dict[str, bytes]:
        """Return the files of all Archives of originals, or those of an envelope: of the first Archive by
        their path, of others after the name of the Archive."""
        return {**read_archive(self.archive, envelope), **read_named(self.other_roots, envelope)}

    def read_copies(self, envelope: str | None = None) -> dict[str, bytes]:
        """Return the files of all Archives of copies, or those of an envelope, after the name of the
        Archive."""
        return read_named(self.copy_roots, envelope)

    async def move_planted_away(self) -> None:
        """Remove planted files because of which an event failed, and retry it, as a person does."""
        for envelope in self.envelopes:
            mine = [path for path in self.planted if envelope in path]
            event = await self.event_of(envelope) if mine or self.copies else None
            if event is None:
                continue
            await self._clear_copies(event)
            if event.get("status", {}).get("reason") == OCCUPIED:
                for path in [each for each in mine if each in self.planted and not self._is_of_copy(each)]:
                    await self._remove(path)
                await self.label_event(event["metadata"]["name"], f"{REQUEST}=retry")

    def _is_of_copy(self, path: str) -> bool:
        return path.partition("/")[0] in self.copies

    async def _clear_copies(self, event: Mapping[str, Any]) -> None:
        """Remove what keeps the copies of an event from their names, as a person does after a comparison."""
        entries = event.get("status", {}).get("copies", ())
        occupied = {each["ref"]["name"] for each in entries if each.get("reason") == OCCUPIED}
        if not occupied:
            return
        envelope = event["spec"]["envelopeID"]
        copy, original = self.read_copies(envelope), self.read_originals(envelope)
        for path in copying.wrong_files(copy, original, self.planted):
            if path.partition("/")[0] in occupied:
                await self._remove(path)

    # Copies and routes

    async def set_copies(self, copies: Mapping[str, bool]) -> None:
        """Let a person set ``spec.copies`` of the first Organization."""
        began = self.ticks.next()
        await self._patch_organization({"copies": copying.copies_of(copies) or None})
        required = frozenset(name for name, is_required in copies.items() if is_required)
        self.copies_in_force.append(CopiesInForce(began, self.ticks.next(), required))

    async def set_routes(self, routes: Sequence[Mapping[str, Any]]) -> None:
        """Let a person set ``spec.routes`` of the first Organization."""
        self.changed_routes += 1
        await self._patch_organization({"routes": list(routes) or None})

    async def _patch_organization(self, spec: Mapping[str, Any]) -> None:
        patch = json.dumps({"spec": spec})
        name = copying.ORGANIZATION
        await persist(
            lambda: self.environment.kubectl("patch", "organization", name, "--type=merge", "-p", patch)
        )

    async def restore_settings(self) -> None:
        """Let a person set copies and routes as they were planned."""
        if self.copies:
            await self.set_copies(copying.PLANNED)
        if self.changed_routes or (self.restores and self.plan.has_routes):
            await self.set_routes(copying.PLANNED_ROUTES)

    async def create_import(self) -> str:
        """Let a person create an Import that makes the missing copies; return its name."""
        self.imports += 1
        made = copying.import_of(self.imports)
        await persist(lambda: self.environment.apply(made))
        return str(made["metadata"]["name"])

    async def complete_copies(self) -> tuple[str, ...]:
        """Let people ask for the copies that are missing; return what did not end."""
        if self.plan.copies is None:
            return ()
        events = await persist(lambda: self.environment.listed("envelopeevents"))
        mine = [each for each in events if each["spec"]["organizationRef"]["name"] == copying.ORGANIZATION]
        for each in mine:
            await self._clear_copies(each)
            if each.get("status", {}).get("reason") in (OCCUPIED, "OriginalDiffers"):
                await self.label_event(each["metadata"]["name"], f"{REQUEST}=retry")
        if self.plan.copies.by_import:
            return await self._import_ended(await self.create_import())
        for each in mine:
            if each.get("status", {}).get("phase") == "Succeeded":
                await self.label_event(each["metadata"]["name"], f"{REQUEST}=copy")
        return ()

    def exists(self, envelope: str) -> bool:
        """Whether an envelope of either Organization is in its eSAW."""
        return (self.neighbour.esaw if envelope in self.neighbour.envelopes else self.esaw).exists(envelope)

    async def has_occupied_copies(self) -> bool:
        """Whether files that another program wrote keep a copy of an event from its name."""
        events = await persist(lambda: self.environment.listed("envelopeevents"))
        entries = (copy for each in events for copy in each.get("status", {}).get("copies", ()))
        return any(each.get("reason") == OCCUPIED for each in entries)

    async def _import_ended(self, name: str) -> tuple[str, ...]:
        deadline = time.monotonic() + IMPORT_SECONDS
        while time.monotonic() < deadline:
            found = await persist(lambda: self.environment.read("import", name))
            conditions = found.get("status", {}).get("conditions", ())
            if any(each["type"] == "Complete" and each["status"] == "True" for each in conditions):
                return ()
            await asyncio.sleep(PAUSE_SECONDS)
        return (f"Import {name} is not complete",)

    async def renew_key(self) -> None:
        """Give the sender's Secret a new key, as an administrator does, and revoke the old ones."""
        new = self.esaw.new_token(self.anna)
        origin = self.ways["esaw"].url
        await persist(lambda: self.environment.secret("anna-key", "token", origin=origin, token=new))
        for old in self.tokens:
            self.esaw.revoke(self.anna, old)
        self.tokens.append(new)

    def change_esaw(self, **switches: Any) -> None:
        """Change some of the switches of eSAW."""
        self.behaviour = msgspec.structs.replace(self.behaviour, **switches)
        self.esaw.set_behaviour(self.behaviour)

    async def trigger_callbacks(self) -> None:
        """Trigger the callbacks that eSAW gave up, as an administrator does in its errors view."""
        for envelope in self.envelopes:
            if self.esaw.exists(envelope) and self.esaw.status(envelope) == "Active":
                with suppress(ValueError):  # none of its callbacks failed
                    await self.esaw.trigger_again(envelope)

    async def event_of(self, envelope: str) -> dict[str, Any] | None:
        """Return the event of an envelope; None if there is none yet."""
        fields = f"spec.envelopeID={envelope}"
        events = await persist(lambda: self.environment.listed("envelopeevents", fields=fields))
        return events[0] if events else None

    def decide(self, what: str, envelope: str = "", archive: str = "") -> Decision:
        """Record a decision that the API server has stored."""
        decision = Decision(what, envelope, self.ticks.next(), archive=archive)
        self.decisions.append(decision)
        return decision

    def take_back_skips(self, envelope: str) -> None:
        """Record that a person begins to retry the event of an envelope, which undoes each skip before."""
        now = self.ticks.next()
        for each in self.decisions:
            if (each.what, each.envelope, each.ended) == ("skip", envelope, None):
                each.ended = now

    async def set_suspend(self, kind: str, name: str, *, is_suspended: bool) -> None:
        """Set `spec.suspend` of an object. A restored API server may not have the object any more."""
        patch = json.dumps({"spec": {"suspend": is_suspended}})

        async def change() -> None:
            try:
                await self.environment.kubectl("patch", kind, name, "--type=merge", "-p", patch)
            except KubectlError as refused:
                if not (self.restores and refused.is_not_found):
                    raise

        await persist(change)

    async def resume_suspended(self) -> None:
        """Resume what is suspended, as a person does if a restore lost the end of a suspension."""
        for kind in ("organizations", "envelopeevents", "archives"):
            for each in await persist(partial(self.environment.listed, kind)):
                if each["spec"].get("suspend"):
                    await self.set_suspend(kind, each["metadata"]["name"], is_suspended=False)

    async def label_event(self, name: str, *labels: str) -> None:
        """Set labels of an event, or remove those that end with a hyphen."""
        await persist(lambda: self.environment.kubectl("label", "--overwrite", "ee", name, *labels))

    async def sweep(self) -> None:
        """Ask for a search for envelopes whose events are gone, as an administrator does after a restore."""
        names, label = ("acme", neighbours.NAME), f"{REQUEST}=sweep"
        await persist(lambda: self.environment.kubectl("label", "--overwrite", "organization", *names, label))


def pem(key: Ed25519PrivateKey) -> bytes:
    """Return a key as `openssl genpkey` writes it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def used_memory(pid: int) -> int:
    """Return the memory of a process and of those that it started, in bytes; what they share counts once.
    Raises ``psutil.Error``."""
    process = psutil.Process(pid)
    return sum(each.memory_full_info().pss for each in (process, *process.children(recursive=True)))


async def persist(act: Callable[[], Awaitable[Any]]) -> Any:
    """Do something in the API server, again while it is down. Raises the last error."""
    for left in reversed(range(PERSIST_ATTEMPTS)):
        try:
            return await act()
        except Exception:
            if not left:
                raise
            await asyncio.sleep(1)
    return None


async def _ready(process: CounterfoilProcess) -> None:
    """Wait until a process is ready. Raises ``ProcessNotReady``."""
    for left in reversed(range(READY_ATTEMPTS)):
        try:
            await process.until_ready()
        except ProcessNotReady:
            if not left:
                raise
        else:
            return


@asynccontextmanager
async def opened(servers: Servers, plan: Round, namespace: str, folder: Path) -> AsyncIterator[Stage]:
    """Set everything up in a new namespace, and end all processes afterwards; logs go to ``folder``."""
    await servers.plane.namespace(namespace)
    async with AsyncExitStack() as exits:
        behaviour = Behaviour(
            papers_lag=plan.papers_lag,
            legal_documents_lag=plan.legal_documents_lag,
            documents_lag=plan.documents_lag,
            callback_on_expiry=True,
        )
        esaw = await exits.enter_async_context(StandIn(behaviour=behaviour, seed=plan.number))
        smtp = await exits.enter_async_context(SmtpServer(login=False, tls="none"))
        environment = await exits.enter_async_context(
            local_environment(servers.plane, folder, namespace=namespace, esaw=esaw)
        )
        ticks = Ticks()
        ways = {
            "api": api_proxy(servers.plane, ticks),
            "esaw": Proxy(esaw.url, ticks=ticks),
        }
        if plan.archive != FOLDER:
            server = servers.s3 if plan.archive == "s3" else servers.webdav
            ways["archive"] = Proxy(server.url, ticks=ticks)
        if plan.copies is not None:
            ways["copy"] = Proxy(servers.of_kind(plan.copies.server).url, ticks=ticks)
        for way in ways.values():
            await exits.enter_async_context(way)
        if plan.archive == FOLDER:
            await exits.enter_async_context(disk(environment.folder / DISK))
        anna = esaw.add_user(email="anna@example.com", given_name="Anna", surname="Kofler")
        notifications = await environment.mails(smtp, ADMINISTRATOR)
        stage = Stage(
            plan=plan,
            servers=servers,
            environment=environment,
            smtp=smtp,
            ways=ways,
            archives=await _archives(servers, plan, environment, ways),
            copies=await _copies(servers, plan, environment, ways),
            anna=anna,
            tokens=[anna.token],
            behaviour=behaviour,
            ticks=ticks,
            forged=await _document_of_another_user(esaw),
            seal=Ed25519PrivateKey.generate() if plan.is_sealed else None,
            common={
                "statuses": ["Completed", "Expired"],
                "cleanup": {"policy": plan.policy},
                "evidence": {"wait": EVIDENCE_WAIT},
                "retry": {"initial": "100ms", "max": "1s", "deadline": "10m"},
                "notifications": notifications,
            },
            neighbour=await exits.enter_async_context(
                neighbours.opened(
                    environment, ticks, notifications, number=plan.number, evidence_wait=EVIDENCE_WAIT
                )
            ),
        )
        smtp.behaviour.answers = stage.record_mail
        await environment.organization(
            copying.ORGANIZATION,
            archive=FIRST,
            sender="anna",
            baseURL=ways["esaw"].url,
            **stage.common,
            **({"routes": list(copying.PLANNED_ROUTES)} if plan.has_routes else {}),
            **({"copies": copying.copies_of(copying.PLANNED)} if stage.copies else {}),
        )
        if stage.copies:
            required = frozenset(name for name, is_required in copying.PLANNED.items() if is_required)
            stage.copies_in_force.append(CopiesInForce(0, 0, required))
        await environment.sender("anna", anna, organization="acme", origin=ways["esaw"].url)
        await stage.start_controllers(plan.controllers, plan.shards)
        await stage.start_receivers()
        await stage.start_senders()
        try:
            await asyncio.gather(*(_ready(each) for each in environment.processes))
            others = (f"archive/{name}" for name in (*stage.other_roots, *stage.copies))
            ready = (*READY, *others)
            await persist(lambda: environment.ready(*ready))
            yield stage
        finally:
            for process in environment.processes:
                process.kill()


async def _document_of_another_user(esaw: StandIn) -> bytes:
    """Return the signed document of an envelope that no sweep finds."""
    eve = esaw.add_user(email="eve@example.com", given_name="Eve", surname="Fabbri")
    envelope = esaw.add_envelope(sender=eve, documents=[DocumentSpec(name="other.pdf", pages=1)])
    (document,) = [each for each in esaw.files(envelope) if each.kind == "Document"]
    async with plain_http(headers={"ApiToken": eve.token}) as http:
        answer = await http.get(f"{esaw.url}/Api/v6/file/{document.file_id}")
        return answer.raise_for_status().content


async def new_folder(folder: Path) -> None:
    """Make the empty folder of a round. One that was killed may have left its disk there, mounted."""
    if (folder / DISK).is_mount():
        await run(["umount", "--lazy", folder / DISK])
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    await asyncio.to_thread(folder.mkdir, parents=True)


@asynccontextmanager
async def disk(folder: Path) -> AsyncIterator[None]:
    """Make a folder, for root as a separate file system."""
    await asyncio.to_thread(folder.mkdir)
    if os.geteuid() != 0:
        yield
        return
    options = f"size={DISK_BYTES},mode=0700"
    await run(["mount", "-t", "tmpfs", "-o", options, "counterfoil-chaos", folder])
    try:
        yield
    finally:
        await run(["umount", "--lazy", folder])


async def _archives(
    servers: Servers, plan: Round, environment: LocalEnvironment, ways: dict[str, Proxy]
) -> dict[str, Place]:
    """Make the Archives of the originals."""
    made: dict[str, Place] = {}
    routed = {copying.ROUTED: {"tags": copying.TAGS}} if plan.has_routes else {}
    for name, spec in {FIRST: dict[str, Any](), **routed}.items():
        if plan.archive == FOLDER:
            root = environment.folder / DISK / f"archive-{name}"
            made[name] = await folder_place(environment, servers, name, root, **spec)
        else:
            url = ways["archive"].url
            made[name] = await server_place(environment, servers, plan.archive, name, url=url, **spec)
    return made


async def _copies(
    servers: Servers, plan: Round, environment: LocalEnvironment, ways: dict[str, Proxy]
) -> dict[str, Place]:
    """Make the Archives of the copies."""
    if plan.copies is None:
        return {}
    kind, url = plan.copies.server, ways["copy"].url
    return {name: await server_place(environment, servers, kind, name, url=url) for name in copying.PLANNED}


def operation(way: str, passage: Passage) -> str:
    """Return the operation of a request, as ``verification.chaos.plan`` names it."""
    if way == "esaw":
        return operation_of(passage)
    if way == "copy":
        return f"copy-{operation('archive', passage)}"
    if way == "archive":
        names = {"PUT": "write", "POST": "write", "HEAD": "stat", "PROPFIND": "stat", "GET": "read"}
        is_list = passage.method == "GET" and "list-type" in passage.query
        return "stat" if is_list else names.get(passage.method, "change")
    return _api_operation(passage)


def _api_operation(passage: Passage) -> str:
    if passage.is_watch:
        return "watch"
    if DISCOVERY_PATH.fullmatch(passage.path):
        return "discovery"
    for part, name in {"/leases": "lease", "/secrets/": "secret"}.items():
        if part in passage.path:
            return name
    if passage.method == "POST" and passage.path.endswith("/envelopes"):
        return "record"
    if "/envelopeevents" in passage.path:
        names = {"POST": "create", "PATCH": "status", "GET": "list"}
        return names.get(passage.method, "other")
    return "list" if passage.method == "GET" else "other"
