"""
Rule 12: no outsider holds the event loop of a process.

No input may make the loop's thread compute for more than 250 ms without a pause. A slow machine adds no such
block: the time in which the thread does not run does not count. The watchdog of each process counts them.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import cast

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.reconcile.phases.archive import MAX_FINDINGS_MEMORY
from controller.resync.envelope_search import EnvelopeSearch, TooManyRequests
from counterfoil.archives.filing import conclude
from counterfoil.archives.layout import FILES_NAMED_IN_LOOP, FileFacts, make_layout, no_claims
from counterfoil.archives.manifest import MANIFEST_LIMIT, Manifest, ManifestDamaged
from counterfoil.archives.manifest_signature import MAX_SEALS
from counterfoil.archives.readback import fitting
from counterfoil.clock import WallClock
from counterfoil.esaw import (
    CallLimits,
    EsawClient,
    EsawError,
    EsawUserClient,
    ResponseInvalid,
    new_http_client,
)
from counterfoil.esaw.drafts import find_sent
from counterfoil.esaw.limits import MAX_SENT_HITS
from counterfoil.esaw.models import EnvelopeResponse, FilesResponse, FoundEnvelope
from counterfoil.esaw_check.probes import Questions, check_esaw
from counterfoil.resources import MAX_DOCUMENTS, EnvelopeEvent, EnvelopeStatus, FiledDocument, envelope_id
from counterfoil.resources.organization import CheckOutcome
from counterfoil.signatures.results import Coverage, Signature, Signatures, State
from counterfoil.untrusted.host_lookup import HostLookup
from counterfoil.untrusted.json_bounds import text_memory
from counterfoil.untrusted.loop_watchdog import MAX_BLOCK_SECONDS
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.servers.plain_http import plain_http
from tests.support.fakes.archives import MemoryBackend, a_file, a_layout, a_spec, an_envelope
from tests.support.pauses import eventually
from tests.support.scenes.esaw_check import a_subject_of, hostile_esaw
from tests.support.scenes.pages import Scene, pages_scene
from tests.support.servers.scripted_esaw import ENVELOPE, against, answering, sending
from tests.support.signing_keys import a_signer
from webhook.console.sessions import COOKIE
from webhook.http_server.forms import FORM_TYPE
from webhook.pages.limits import PageLimits
from webhook.pages.metadata import DraftMetadataUnreadable, merged, values_in

MIB = 1024 * 1024
BLOCKS = "counterfoil_event_loop_blocks_total"
PATTERN = "(a|a)*b"
LONG_VALUE = "a" * PageLimits().value
FORM = {"Content-Type": FORM_TYPE}
NAMES = tuple(f"field{number}" for number in range(32))


@contextmanager
def no_block() -> Iterator[None]:
    """
    Check that this loop's thread did not compute for more than 250 ms without asking for new input.

    Only the CPU time of one iteration of the loop counts. The watchdog adds up to 100 ms of the iterations
    before, if a busy machine lets this one take long.
    """
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    longest, since = 0.0, time.thread_time()
    select = selector.select

    def measured_select(timeout: float | None = None) -> object:
        nonlocal longest, since
        longest = max(longest, time.thread_time() - since)
        try:
            return select(timeout)
        finally:
            since = time.thread_time()

    selector.select = measured_select
    try:
        yield
    finally:
        del selector.select
    assert max(longest, time.thread_time() - since) <= MAX_BLOCK_SECONDS


def compute(seconds: float) -> None:
    """Use CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def test_a_computation_that_holds_the_loop_is_found() -> None:
    with pytest.raises(AssertionError), no_block():
        compute(1.1 * MAX_BLOCK_SECONDS)


async def test_a_computation_of_another_task_is_found() -> None:
    async def other() -> None:
        compute(1.1 * MAX_BLOCK_SECONDS)

    with pytest.raises(AssertionError), no_block():
        await asyncio.create_task(other())


async def test_computations_with_pauses_hold_no_loop() -> None:
    with no_block():
        for _ in range(4):
            compute(MAX_BLOCK_SECONDS / 3)
            await asyncio.sleep(0)


# -- Parts ---------------------------------------------------------------------------------------------------


def filled(begin: bytes, item: bytes, end: bytes, size: int = 16 * MIB) -> bytes:
    """Return JSON of almost this size: a list of equal items."""
    count = (size - len(begin) - len(end)) // (len(item) + 1)
    return begin + b",".join([item] * count) + end


ENVELOPE_BEGIN = b'{"Id":"%b","EnvelopeStatus":"Completed","Activities":[' % ENVELOPE.encode()
# Each process of the tests imports this module, so an answer is made in its test.
ANSWERS: dict[str, tuple[Callable[[EsawUserClient], object], Callable[[], bytes]]] = {
    "an envelope with millions of steps": (
        lambda user: user.envelope(ENVELOPE),
        partial(filled, ENVELOPE_BEGIN, b"{}", b"]}"),
    ),
    "millions of files": (
        lambda user: user.files(ENVELOPE),
        partial(filled, b'{"Documents":[', b"{}", b"]}"),
    ),
    "a configuration with something else": (
        lambda user: user.configuration(ENVELOPE),
        partial(filled, b'{"Other":[', b"[]", b"]}"),
    ),
    "millions of numbers": (lambda user: user.whoami(), partial(filled, b'{"Other":[', b"1", b"]}")),
    "lists in lists": (lambda user: user.configuration(ENVELOPE), lambda: b"[" * 16 * MIB),
}


@pytest.mark.parametrize("attack", ANSWERS)
async def test_no_answer_of_esignanywhere_holds_the_loop(attack: str) -> None:
    call, make_body = ANSWERS[attack]
    limits = CallLimits(max_json_bytes=16 * MIB)
    async with against(answering(make_body()), call_limits=limits) as setup:
        with no_block(), pytest.raises(ResponseInvalid):
            await call(setup.user)  # type: ignore[misc]  # each call is a coroutine of another type


async def test_no_manifest_in_an_archive_holds_the_loop() -> None:
    members = b'{"schema":"counterfoil.dev/manifest/v1","extra":{"more":['
    for text in (filled(members, b"[]", b"]}}"), filled(members, b'""', b"]}}"), b"[" * 16 * MIB):
        with no_block(), pytest.raises(ManifestDamaged):
            Manifest.decode(text)


def numbered(count: int, item: str) -> bytes:
    """Return a list without its brackets."""
    return ",".join(item.replace("%d", str(number)) for number in range(count)).encode()


def dense(begin: bytes, count: int, item: str, end: bytes = b"]}") -> bytes:
    return begin + numbered(count, item) + end


DENSE: dict[str, tuple[Callable[[EsawUserClient], Awaitable[object]], Callable[[], bytes]]] = {
    "165,000 documents": (
        lambda user: user.files(ENVELOPE),
        partial(dense, b'{"Documents":[', 165_000, '{"FileId":"%d","AuditTrailFileId":"t%d"}'),
    ),
    "as many documents as are accepted": (
        lambda user: user.files(ENVELOPE),
        partial(dense, b'{"Documents":[', 9_900, '{"FileId":"%d","AuditTrailFileId":"t%d"}'),
    ),
    "180,000 steps": (
        lambda user: user.envelope(ENVELOPE),
        partial(dense, ENVELOPE_BEGIN, 180_000, '{"FinishedDate":"2026-01-02T00:00:00Z"}'),
    ),
    "as many steps as are accepted": (
        lambda user: user.envelope(ENVELOPE),
        partial(dense, ENVELOPE_BEGIN, 49_900, '{"FinishedDate":"2026-01-02T00:00:00Z"}'),
    ),
    "199,000 sent envelopes whose ids are no GUIDs": (
        lambda user: find_sent(user, "anna@example.com", datetime.now(UTC)),
        partial(dense, b'{"Envelopes":[', 199_000, '{"Id":"x%d"}'),
    ),
    "as many sent envelopes as are accepted": (
        lambda user: find_sent(user, "anna@example.com", datetime.now(UTC)),
        partial(dense, b'{"Envelopes":[', MAX_SENT_HITS, '{"Id":"x%d"}'),
    ),
    "700,000 members of something else": (
        lambda user: user.configuration(ENVELOPE),
        partial(dense, b'{"x":0,', 700_000, '"%d":0', b"}"),
    ),
}
"""Answers of less than 8 MiB."""


@pytest.mark.parametrize("attack", DENSE)
async def test_no_dense_answer_of_esignanywhere_holds_the_loop(attack: str) -> None:
    call, make_body = DENSE[attack]

    async def use(user: EsawUserClient) -> None:
        found = await call(user)
        if isinstance(found, FilesResponse):
            found.files()
        elif isinstance(found, EnvelopeResponse):
            assert found.finished_date is not None

    async with against(answering(make_body())) as setup:
        with no_block():
            if "accepted" in attack:
                await use(setup.user)
            else:
                with suppress(ResponseInvalid):
                    await use(setup.user)


@pytest.mark.parametrize("dense", [False, True], ids=["long texts", "many members"])
async def test_no_answer_to_a_check_of_an_esignanywhere_holds_the_loop(*, dense: bool) -> None:
    async with hostile_esaw(dense=dense) as url, new_http_client() as http:
        esaw = EsawClient(url, http=http, clock=WallClock(), observe=lambda *_: None)
        with no_block():
            report = await check_esaw(Questions(esaw, WallClock()), a_subject_of(url), datetime.now(UTC))
        found = {each.id: each.outcome for each in report.results}
    assert found["envelope-statuses"] is CheckOutcome.AS_EXPECTED


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 102 Processing\r\n"
FRAGMENTS = {
    "chunks of one byte": lambda: CHUNKED + b"1\r\nx\r\n" * 500_000,
    "chunks with long extensions": lambda: CHUNKED + b"1;%s\r\nx\r\n" % (b"x" * 9_000) * 500,
    "interim responses": lambda: (INTERIM + b"\r\n") * 100_000,
    "interim responses without CR": lambda: b"HTTP/1.1 102 Processing\n\n" * 100_000,
    "fields of interim responses": lambda: (INTERIM + b"a:\r\n" * 150 + b"\r\n") * 3_000,
    "fields": lambda: CHUNKED[:-2] + b"a:\r\n" * 500_000,
    "a field without an end": lambda: CHUNKED[:-2] + b"a:" + b"x" * 4 * MIB,
    "trailers": lambda: CHUNKED + b"0\r\n" + b"a:\r\n" * 500_000,
    "responses": lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 100_000,
    "empty lines": lambda: b"\r\n" * 1_000_000,
}


@pytest.mark.parametrize("attack", FRAGMENTS)
async def test_no_response_in_many_fragments_holds_the_loop(attack: str) -> None:
    async with against(sending(FRAGMENTS[attack]()), call_limits=CallLimits(silence=1)) as setup:
        with no_block(), pytest.raises(EsawError):
            await setup.user.envelope(ENVELOPE)


@dataclass(frozen=True)
class ManyEnvelopes:
    """An eSignAnyWhere that lists these envelopes."""

    envelopes: tuple[FoundEnvelope, ...]

    async def find(self, **_search: object) -> tuple[FoundEnvelope, ...]:
        return self.envelopes


async def unchecked() -> None:
    """Let the search continue."""


async def test_no_list_of_a_sweep_holds_the_loop() -> None:
    """It has as many envelopes as an answer may have, with ids that are no GUIDs."""
    many = ManyEnvelopes(tuple(FoundEnvelope(id=f"x{number}") for number in range(199_000)))
    search = EnvelopeSearch(cast("EsawUserClient", many), 1, unchecked)
    now, unusable = datetime.now(UTC), 0
    with no_block(), suppress(TooManyRequests):
        async for each in search.between(EnvelopeStatus.COMPLETED, now - timedelta(days=1), now):
            try:
                envelope_id(each)
            except ValueError:
                unusable += 1
    assert unusable == 199_000


async def test_no_number_of_names_whose_dns_server_hangs_holds_the_loop() -> None:
    ends = threading.Event()

    def hang(_host: str) -> tuple[str, ...]:
        ends.wait(30)
        return ()

    lookup = HostLookup(hang)
    with no_block():
        waiting = [
            asyncio.create_task(lookup.addresses(f"a.zone{number}.example", 443)) for number in range(400)
        ]
        await asyncio.wait(waiting, timeout=0.2)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    ends.set()


MANIFEST = (
    '{"schema":"counterfoil.dev/manifest/v1","envelope":{"id":"e","name":"","status":"","organization":""},'
    '"sender":{"email":"","userID":"","name":""},"times":{"sent":"","archived":"","actions":[ACTIONS]},'
    '"files":[FILES],"tags":{TAGS}}'
)
FILE = (
    '{"name":"%d","kind":"Document","fileID":"%d","fileName":"%d","contentType":"","size":1,"sha256":"",'
    '"location":"%d"}'
)
MANIFESTS: dict[str, tuple[str, int, str]] = {
    "990,000 tags": ("TAGS", 990_000, '"%d":"a"'),
    "as many tags as are accepted": ("TAGS", 40_000, '"%d":"a"'),
    "199,000 callbacks": ("ACTIONS", 199_000, '{"action":"a","time":"b"}'),
    "as many callbacks as are accepted": ("ACTIONS", 40_000, '{"action":"a","time":"b"}'),
    "59,900 files": ("FILES", 59_900, FILE),
    "as many files as are accepted": ("FILES", 2000, FILE),
}


@pytest.mark.parametrize("attack", MANIFESTS)
async def test_no_dense_manifest_in_an_archive_holds_the_loop(attack: str) -> None:
    part, count, item = MANIFESTS[attack]
    text = MANIFEST.replace(part, numbered(count, item).decode())
    for other in ("ACTIONS", "FILES", "TAGS"):
        text = text.replace(other, "")
    content = text.encode()
    with no_block():
        if "accepted" in attack:
            Manifest.decode(content)
        else:
            with suppress(ManifestDamaged):
                Manifest.decode(content)


async def test_no_seals_beside_a_large_manifest_hold_the_loop() -> None:
    content, key = bytes(MANIFEST_LIMIT), a_signer().public
    seal = a_signer(2).sign(content)
    began = time.thread_time()
    assert await fitting(seal * MAX_SEALS, content, key) == ()
    assert time.thread_time() - began < 0.05


def signatures_of(count: int) -> Signatures:
    found = tuple(
        Signature(field=f"{number}\U0001f600" + "a" * 200, intact=False, coverage=Coverage.UNKNOWN)
        for number in range(count)
    )
    return Signatures(state=State.BROKEN, detail="it is not intact", found=found)


async def test_no_number_of_signatures_holds_the_loop_or_makes_a_manifest_unreadable() -> None:
    backend, layout = MemoryBackend(), a_layout(*of_files(MAX_DOCUMENTS, "[a]{b},c.pdf"))
    digest = sha256(b"x").hexdigest()
    documents = [
        FiledDocument(file_id=each.facts.file_id, kind=each.facts.kind, file_name="x", size=1, sha256=digest)
        for each in layout.files
    ]
    backend.files |= {each.name: b"x" for each in layout.files}
    memory, signatures = MAX_FINDINGS_MEMORY, {}
    for each in layout.files:
        found = signatures_of(200).within(memory)
        memory -= text_memory(found.found)
        signatures[each.facts.file_id] = found
    with no_block():
        await conclude(
            backend,
            layout,
            an_envelope(),
            documents,
            archived_at=datetime.now(UTC),
            extra={},
            signatures=signatures,
            signer=None,
        )
    manifest = Manifest.decode(backend.files[layout.manifest_name])
    assert sum(each.signatures.count for each in manifest.files if each.signatures is not None) == (
        200 * MAX_DOCUMENTS
    )


DRAFTS = {
    "250,000 elements": f"<r>{'<a/>' * 250_000}</r>",
    "140,000 comments": f"<r>{'<!---->' * 140_000}</r>",
    "40,000 namespaces": "<r>" + "".join(f"<a xmlns:b{number}='x'/>" for number in range(40_000)) + "</r>",
    "80,000 members": json.dumps({str(number): 0 for number in range(80_000)}),
    "nested members": json.dumps({"field1": [[]] * 300_000}, separators=(",", ":")),
    "500,000 levels": '{"field1":' + "[" * 500_000 + "]" * 500_000 + "}",
}


@pytest.mark.parametrize("attack", DRAFTS)
async def test_no_metadata_of_a_draft_holds_the_loop(attack: str) -> None:
    values, limit = dict.fromkeys(NAMES, "new"), PageLimits().metadata
    with no_block():
        try:
            await asyncio.to_thread(values_in, DRAFTS[attack], NAMES, limit=limit)
            await asyncio.to_thread(merged, DRAFTS[attack], values, limit=limit)
        except DraftMetadataUnreadable:
            assert attack == "500,000 levels"


def of_files(count: int, name: str) -> list[FileFacts]:
    return [a_file(name, number=number, file_id=f"f{number}") for number in range(count)]


FILES = {
    "one name for 2,000 files": of_files(MAX_DOCUMENTS, "contract.pdf"),
    "one long name for 2,000 files": of_files(MAX_DOCUMENTS, "x" * 300 + ".pdf"),
    "a name of 100,000 dots": of_files(1, "a" + "." * 100_000 + "x"),
    "a name of a million spaces": of_files(1, "a" + " " * 1_000_000 + "x"),
    "a name of 200,000 combining characters": of_files(1, "a" + "\u0300\u0316" * 100_000),
}
"""A sender or a signer chooses the names."""


@pytest.mark.parametrize("attack", FILES)
async def test_no_name_of_a_file_holds_the_loop(attack: str) -> None:
    with no_block():
        make = partial(
            make_layout,
            a_spec(),
            an_envelope(name=FILES[attack][0].file_name),
            FILES[attack],
            claimed=no_claims,
        )
        await (in_thread(make) if len(FILES[attack]) > FILES_NAMED_IN_LOOP else in_loop(make))


async def in_thread(function: Callable[[], object]) -> None:
    await asyncio.to_thread(function)


async def in_loop(function: Callable[[], object]) -> None:
    function()


# -- Whole processes -----------------------------------------------------------------------------------------


async def blocks(process: CounterfoilProcess) -> float:
    """Return the number of blocks of a process in which its loop computed."""
    families = text_string_to_metric_families(await process.metrics())
    samples = [sample for family in families for sample in family.samples if sample.name == BLOCKS]
    return next(each.value for each in samples if each.labels["cause"] == "computing")


async def least_blocks(attack: Callable[[], Awaitable[object]], *processes: CounterfoilProcess) -> float:
    """Return the number of blocks during an attack: the smallest of three. An attack that holds the loop does
    so each time, and a busy machine makes only some of the short computations long."""
    counts: list[float] = []
    while len(counts) < 3 and 0 not in counts:
        before = sum([await blocks(each) for each in processes])
        await attack()
        counts.append(sum([await blocks(each) for each in processes]) - before)
    return min(counts)


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with pages_scene(plane, namespace, tmp_path) as built:
        root = tmp_path / "archive"
        root.mkdir()
        await built.local_environment.archive(
            "folder",
            filesystem={"root": str(root)},
            tags={
                "a": {"jsonPath": "$.fields[?match(@.value, @.pattern)].value"},
                "order": {"xpath": "/r/a[contains(., /r/b)]", "required": True},
            },
        )
        await built.local_environment.sender("anna", built.anna, organization="acme")
        fields = [{"name": name, "pattern": PATTERN} for name in NAMES]
        await built.organization(beforeSend={"fields": fields}, defaultSenderRef={"name": "anna"})
        yield built


METADATA = {
    "two long texts": f"<r><a>{'a' * 400_000}</a><b>{'a' * 200_000}b</b></r>",
    "an exponential pattern": json.dumps({"fields": [{"value": "a" * 40 + "!", "pattern": PATTERN}]}),
}


async def test_no_metadata_of_an_envelope_holds_the_loop_of_the_controller(scene: Scene) -> None:
    receiver = await scene.local_environment.receiver()
    controller = await scene.local_environment.controller()
    await scene.local_environment.ready("archive/folder", "organization/acme")
    address = scene.local_environment.callback_url("acme", receiver)

    async def send(metadata: str) -> str:
        envelope = scene.esaw.add_envelope(sender=scene.anna, metadata=metadata)
        url = address.replace("##EnvelopeId##", envelope).replace("##Action##", "envelopeFinished")
        async with plain_http() as http:
            assert (await http.get(url)).status_code == 200
        return envelope

    async def reached(*expected: str) -> None:
        async def is_so() -> bool:
            events = [EnvelopeEvent.parse(each) for each in await scene.local_environment.events()]
            states = [each.status.reason if not each.status.phase.is_final else "done" for each in events]
            return sorted(map(str, states)) == sorted(expected)

        await eventually(is_so)

    await send("<r><a>1</a><b>1</b></r>")
    await reached("done")
    before = await blocks(controller)
    for metadata in METADATA.values():
        await send(metadata)
    await reached("done", "MetadataTooHeavy", "MetadataTooHeavy")
    await send("<r><a>2</a><b>2</b></r>")
    await reached("done", "done", "MetadataTooHeavy", "MetadataTooHeavy")
    assert await blocks(controller) == before


async def test_no_form_and_no_draft_holds_the_loop_of_the_pages(scene: Scene) -> None:
    browser = await scene.sign_in()
    await browser.open(scene.link(scene.esaw.add_draft(owner=scene.anna)))
    await browser.press("Allow")
    before = await blocks(scene.pages)
    await browser.press("Send envelope", **{f"tag.{name}": LONG_VALUE for name in NAMES})
    assert browser.page.status == 422

    await browser.open(
        scene.link(scene.esaw.add_draft(owner=scene.anna, metadata=DRAFTS["250,000 elements"]))
    )
    await browser.press("Send envelope", **{f"tag.{name}": "b" for name in NAMES})
    assert await blocks(scene.pages) == before


async def receiver_and_console(scene: Scene) -> tuple[CounterfoilProcess, CounterfoilProcess, str]:
    """Start both; return them, and the address of a callback whose token the receiver knows."""
    environment = scene.local_environment
    # It publishes the hash of the token, without which the receiver reads nothing of a request.
    await environment.controller()
    await environment.ready("archive/folder", "organization/acme")
    receiver, console = await environment.receiver(), await environment.console()
    address = environment.callback_url("acme", receiver).partition("?")[0]
    async with plain_http() as http:
        assert (await http.get(f"{address}?envelopeId={ENVELOPE}&action=envelopeFinished")).status_code == 200
    return receiver, console, address


async def test_no_request_holds_the_loop_of_receiver_and_console(scene: Scene) -> None:
    receiver, console, address = await receiver_and_console(scene)
    cookies = "; ".join(f"{COOKIE}-{number}={'A' * 3700}" for number in range(4))
    requests = [
        ("GET", f"{address}?{'a=%41&' * 1300}", {}, b""),
        ("POST", address, {}, b"x" * 63 * 1024),
        ("GET", f"{address}?envelopeId={'%25' * 2000}", {f"X-{n}": "y" * 4000 for n in range(40)}, b""),
        (
            "GET",
            f"{console.public}/?{'&'.join(f'{n}=' + 'x' * 200 for n in range(30))}",
            {"Cookie": cookies},
            b"",
        ),
        ("GET", f"{console.public}/", {"Accept-Language": "de;q=0.1," * 3000, "Cookie": "a=b;" * 1500}, b""),
        ("POST", f"{console.public}/sign-in", FORM, b"token=" + b"A" * 12_000 + b"." * 12_000),
    ]

    async def attack() -> None:
        async with plain_http(timeout=60) as http:
            for method, url, headers, body in requests * 5:
                answer = await http.request(method, url, headers=headers, content=body)
                assert answer.status_code < 600

    assert await least_blocks(attack, receiver, console) == 0


async def send_raw(url: httpx.URL, request: bytes) -> None:
    """Send what no client sends, until the server answers or closes the connection."""
    with suppress(ConnectionError):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        async with asyncio.timeout(60):
            writer.write(request)
            await writer.drain()
            await reader.readline()
        writer.close()


ESCAPED = b"%25" * (8 * MIB // 3)
"""Text that takes about a second to decode."""

LARGE_REQUESTS = {
    "a query for the receiver": b"GET {path}?envelopeId=" + ESCAPED + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a query for the console": b"GET /events?a=" + ESCAPED + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "cookies for the console": b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a=b;" * (MIB // 4) + b"\r\n\r\n",
    "a form for the console": (
        b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\ntoken=%b"
        % (FORM_TYPE.encode(), len("token=") + len(ESCAPED), ESCAPED)
    ),
    "a form of unknown length for the console": (
        b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (FORM_TYPE.encode(), len(ESCAPED), ESCAPED)
    ),
}
"""Each holds the loop of a process that does not limit its size."""


async def test_no_large_request_holds_the_loop_of_receiver_and_console(scene: Scene) -> None:
    receiver, console, address = await receiver_and_console(scene)
    held = {}
    for attack, request in LARGE_REQUESTS.items():
        process = receiver if "receiver" in attack else console
        url = httpx.URL(address if process is receiver else console.public)
        send = partial(send_raw, url, request.replace(b"{path}", url.raw_path))
        held[attack] = await least_blocks(send, process)
    assert held == dict.fromkeys(LARGE_REQUESTS, 0)
