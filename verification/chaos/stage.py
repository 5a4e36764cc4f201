"""
The processes of a round: receivers, controllers, eSAW and the mail server, with a proxy on each connection.

A process that a fault killed is started again, as a node does. One that ends without that is a violation.
"""

import asyncio
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import msgspec
import obstore
import psutil
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from obstore.store import S3Store

from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.processes import run
from sandbox.environment.api_proxy import api_proxy, kubeconfig_through
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess, ProcessNotReady
from sandbox.esaw import Behaviour, CallbackUrls, DocumentSpec, StandIn, User
from sandbox.servers.plain_http import plain_http
from sandbox.servers.proxies import Passage, Proxy, Ticks, operation_of
from sandbox.servers.s3_rclone import S3Server
from sandbox.servers.smtp import SmtpServer
from sandbox.servers.webdav_rclone import RcloneWebdavServer
from verification.chaos import neighbour as neighbours
from verification.chaos import senders as people
from verification.chaos.checker import FINAL, OCCUPIED, Decision
from verification.chaos.neighbour import Neighbour
from verification.chaos.plan import FOLDER, EnvelopeOrder, Round
from verification.chaos.planted import Source, planted_files
from verification.chaos.rotation import Rotation
from verification.chaos.senders import Senders

BUCKET = "contracts"
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
PAUSE_SECONDS = 1.0
MEMORY_SECONDS = 1.0
"""Interval between samples of the memory."""


@dataclass(frozen=True)
class Servers:
    """The servers that stay over all rounds of a campaign."""

    plane: ControlPlane
    s3: S3Server
    webdav: RcloneWebdavServer


@dataclass(eq=False)
class Stage:
    """The running processes of one round; made by ``opened``."""

    plan: Round
    servers: Servers
    environment: LocalEnvironment
    smtp: SmtpServer
    ways: dict[str, Proxy]
    """The proxies before the API server, eSAW and the archive."""
    archive: Path
    """The folder in which the archive keeps its files."""
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
    """Files that another program wrote into the archive, by their path."""
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
            people.NAME, archive="dms", **self.common, **people.spec_of(self.senders)
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
        disk = os.statvfs(self.archive)
        with (self.archive.parent / "other").open("wb") as other:
            os.posix_fallocate(other.fileno(), 0, disk.f_bavail * disk.f_frsize)

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
            callbacks=CallbackUrls(envelope=self.environment.callback_url("acme", receiver)),
        )
        if order.planted:
            await self._plant(envelope, order.planted)
        # Only now, since a fault deletes any of them, and an envelope that is gone cannot end.
        self.envelopes.append(envelope)
        await (self.esaw.expire(envelope) if order.expired else self.esaw.complete(envelope))
        return envelope

    async def _plant(self, envelope: str, kind: str) -> None:
        """Write files into the folder of an envelope before it ends, as another program does."""
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
            await persist(partial(self._write, path, content))
        self.planted |= files

    async def move_planted_away(self) -> None:
        """Remove planted files because of which an event failed, and retry it, as a person does."""
        for envelope in self.envelopes:
            mine = [path for path in self.planted if envelope in path]
            event = await self.event_of(envelope) if mine else None
            if event is not None and event.get("status", {}).get("reason") == OCCUPIED:
                for path in mine:
                    await persist(partial(self._write, path, None))
                    del self.planted[path]
                await self.label_event(event["metadata"]["name"], f"{REQUEST}=retry")

    async def _write(self, path: str, content: bytes | None) -> None:
        """Write one file of the archive, or remove it, through its server, which remembers its lists."""
        if self.plan.archive == FOLDER:
            file = self.archive / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(content)
        elif self.plan.archive == "s3":
            await self._write_to_s3(path, content)
        else:
            await self._write_to_webdav(f"{self.archive.name}/{path}", content)

    async def _write_to_s3(self, path: str, content: bytes | None) -> None:
        s3 = self.servers.s3
        store = S3Store(
            BUCKET,
            prefix=self.archive.name,
            endpoint=s3.url,
            region="eu-central-1",
            access_key_id=s3.access_key,
            secret_access_key=s3.secret_key,
            client_options={"allow_http": True},
        )
        if content is None:
            await obstore.delete_async(store, path)
        else:
            await obstore.put_async(store, path, content)

    async def _write_to_webdav(self, path: str, content: bytes | None) -> None:
        webdav = self.servers.webdav
        if content is None:
            with suppress(httpx.HTTPStatusError):  # it is not there
                await webdav.ask("DELETE", path)
            return
        for folder in list(reversed(PurePosixPath(path).parents))[2:]:
            with suppress(httpx.HTTPStatusError):  # it is there
                await webdav.ask("MKCOL", str(folder))
        await webdav.ask("PUT", path, content)

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

    def decide(self, what: str, envelope: str = "") -> Decision:
        """Record a decision that the API server has stored."""
        decision = Decision(what, envelope, self.ticks.next())
        self.decisions.append(decision)
        return decision

    def take_back_skips(self, envelope: str) -> None:
        """Record that a person begins to retry the event of an envelope, which undoes each skip before."""
        now = self.ticks.next()
        for each in self.decisions:
            if (each.what, each.envelope, each.ended) == ("skip", envelope, None):
                each.ended = now

    async def set_suspend(self, kind: str, name: str, *, is_suspended: bool) -> None:
        """Set `spec.suspend` of an object."""
        patch = json.dumps({"spec": {"suspend": is_suspended}})
        await persist(lambda: self.environment.kubectl("patch", kind, name, "--type=merge", "-p", patch))

    async def resume_suspended(self) -> None:
        """Resume what is suspended, as a person does if a restore lost the end of a suspension."""
        for kind in ("organizations", "envelopeevents"):
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
        for way in ways.values():
            await exits.enter_async_context(way)
        if plan.archive == FOLDER:
            await exits.enter_async_context(_disk(environment.folder / DISK))
        anna = esaw.add_user(email="anna@example.com", given_name="Anna", surname="Kofler")
        notifications = await environment.mails(smtp, ADMINISTRATOR)
        stage = Stage(
            plan=plan,
            servers=servers,
            environment=environment,
            smtp=smtp,
            ways=ways,
            archive=await _archive(servers, plan, environment, ways),
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
            "acme", archive="dms", sender="anna", baseURL=ways["esaw"].url, **stage.common
        )
        await environment.sender("anna", anna, organization="acme", origin=ways["esaw"].url)
        await stage.start_controllers(plan.controllers, plan.shards)
        await stage.start_receivers()
        await stage.start_senders()
        try:
            await asyncio.gather(*(_ready(each) for each in environment.processes))
            await persist(lambda: environment.ready(*READY))
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


@asynccontextmanager
async def _disk(folder: Path) -> AsyncIterator[None]:
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


async def _archive(
    servers: Servers, plan: Round, environment: LocalEnvironment, ways: dict[str, Proxy]
) -> Path:
    """Make the Archive; return the folder of its files."""
    namespace = environment.namespace
    if plan.archive == FOLDER:
        root = environment.folder / DISK / "archive"
        root.mkdir()
        await environment.archive("dms", filesystem={"root": str(root)})
        return root
    if plan.archive == "s3":
        root = servers.s3.folder / BUCKET / namespace
        root.mkdir()
        secret = {"accessKeyId": servers.s3.access_key, "secretAccessKey": servers.s3.secret_key}
        spec: dict[str, Any] = {
            "bucket": BUCKET,
            "prefix": namespace,
            "region": "eu-central-1",
            "endpoint": ways["archive"].url,
            "forcePathStyle": True,
        }
    else:
        root = servers.webdav.rclone.folder / namespace
        await servers.webdav.ask("MKCOL", namespace)
        secret = {"username": servers.webdav.username, "password": servers.webdav.password}
        spec = {"url": f"{ways['archive'].url}/{namespace}"}
    await environment.secret("dms-key", "archive", **secret)
    await environment.archive("dms", **{plan.archive: {**spec, "credentialsSecretRef": {"name": "dms-key"}}})
    return root


def operation(way: str, passage: Passage) -> str:
    """Return the operation of a request, as ``verification.chaos.plan`` names it."""
    if way == "esaw":
        return operation_of(passage)
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
