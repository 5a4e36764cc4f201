"""The names of an envelope's files: layout, location for each kind of archive, manifest."""

import re

from counterfoil.archives import ARCHIVE_KINDS, find_opener
from counterfoil.archives.backend import ArchiveBackend, is_temporary, segments
from counterfoil.archives.layout import EnvelopeFacts, FileFacts, make_layout, no_claims
from counterfoil.archives.manifest import (
    Manifest,
    ManifestEnvelope,
    ManifestFile,
    ManifestSender,
    ManifestTimes,
    hash_lines,
)
from counterfoil.archives.names import HASHES_NAME, MANIFEST_NAME, SEGMENT_LIMIT, SIGNATURE_NAME, case_folded
from counterfoil.archives.verify import name_at
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.resources.archive_kinds import SETTINGS
from counterfoil.resources.base import parse_part
from counterfoil.resources.envelopeevent import FileKind
from verification.fuzz.target import SEPARATOR, Check, Target, expect, joined, promised, result_of, text_of

PATHS = (
    "{{organization}}/{{envelope.id}}/{{file.kind}}/{{file.name}}",
    "{{envelope.id}}/{{file.name}}",
    "{{envelope.name}}-{{envelope.id}}/{{file.number}}-{{file.name}}",
    "{{sender.email}}/{{envelope.id}}/{{tags.customer}}{{file.name}}.{{file.kind}}",
)
_FORBIDDEN = re.compile(r'[\x00-\x1f/\\<>:"|?*]')

FILES = 4
"""Maximum number of files of one envelope."""

THOROUGH = 4
"""One of this number of inputs has the checks that take more time than all others."""

SECRETS = {
    name: value.encode()
    for name, value in {
        "accessKeyId": "a",
        "secretAccessKey": "b",
        "accountName": "acme",
        "accountKey": "YQ==",
        "username": "a",
        "password": "b",
        "signingSecret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    }.items()
}


async def _backends() -> list[ArchiveBackend]:
    """Open an archive of each kind that needs no key of a cloud; none of them sends a request."""
    opened = []
    for name in sorted(ARCHIVE_KINDS):
        # It would ask the network for a key; its names are those of s3.
        if name == "gcs":
            continue
        settings = {**SETTINGS[name].EXAMPLE, "credentialsSecretRef": {"name": "dms"}}
        if name == "sftp":
            settings["hostKeys"] = [f"SHA256:{'A' * 43}"]
        spec: ArchiveSpec = parse_part(ArchiveSpec, {name: settings})
        opened.append(await find_opener(name)("dms", spec, SECRETS))
    return opened


def _specs() -> list[ArchiveSpec]:
    tagged: ArchiveSpec = parse_part(ArchiveSpec, {"path": PATHS[-1], "tags": {"customer": {"value": "x"}}})
    return [*(ArchiveSpec(path=each) for each in PATHS[:-1]), tagged]


def _prepare() -> Check:
    backends, specs = result_of(_backends()), _specs()

    def check(data: bytes) -> None:
        choice, envelope_name, email, tag, *names = _split(data)
        number = sum(choice)
        spec = specs[number % len(specs)]
        backend = backends[number // len(specs) % len(backends)]
        # By the length, which most mutations change; the first byte stays the seed's in most inputs.
        is_thorough = len(data) % THOROUGH == 0
        envelope = EnvelopeFacts("acme", "0f9c", text_of(envelope_name), sender_email=text_of(email))
        files = [
            FileFacts(f"id-{position}", list(FileKind)[position % 2], text_of(each), position)
            for position, each in enumerate(names)
        ]
        found = {"customer": text_of(tag)}
        layout = make_layout(spec, envelope, files, found=found, claimed=no_claims)
        own = [layout.manifest_name, layout.hashes_name, layout.seal_name]
        paths = [each.name for each in layout.files]
        expect(len({case_folded(each) for each in paths + own}) == len(paths + own), "no two share a name")
        _check_segments(layout.folder)
        for path in paths:
            expect(path.startswith(f"{layout.folder}/"), "a file is in its envelope's folder")
            _check_segments(layout.relative(path))
            expect(not is_temporary(path), "no file looks temporary")
        for path in (paths[-1], own[number % len(own)]):
            with promised(f"a name has a location in {backend.kind}"):
                location = backend.location(path)
            expect(location.isascii(), "a location is a URI")
            expect(name_at(backend, location) == path, f"a location in {backend.kind} leads to its name")
        if is_thorough:
            again = make_layout(spec, envelope, files[::-1], found=found, claimed=no_claims)
            expect(layout == again, "the names do not depend on the order of the list")
            _check_manifest([(layout.relative(each.name), each.facts.file_name) for each in layout.files])

    return check


def _split(data: bytes) -> list[bytes]:
    """Split an input into five parts at least: the last ones are the names of one to four files."""
    parts = data.split(SEPARATOR, 3 + FILES)
    return parts + [b""] * (5 - len(parts))


def _check_segments(path: str) -> None:
    with promised("a name is clean text"):
        parts = segments(path)
        path.encode()
    for each in parts:
        expect(len(each.encode()) <= SEGMENT_LIMIT, "a segment has at most 255 bytes")
        expect(_FORBIDDEN.search(each) is None, "a segment has no separators and no control characters")
        expect(each == each.strip() and not each.startswith(".") and not each.endswith("."), "no edges")


def _check_manifest(names: list[tuple[str, str]]) -> None:
    files = tuple(
        ManifestFile(
            name=name,
            kind=FileKind.DOCUMENT,
            file_id="1",
            file_name=original.encode("utf-8", errors="replace").decode(),
            content_type="",
            size=1,
            sha256="0" * 64,
            location="",
        )
        for name, original in names
    )
    manifest = Manifest(
        envelope=ManifestEnvelope(id="1", name="", status="", organization="acme"),
        sender=ManifestSender(email="", user_id="", name=""),
        times=ManifestTimes(sent="", archived=""),
        files=files,
    )
    expect(Manifest.decode(manifest.encode()) == manifest, "a manifest is read as it was written")
    own = {MANIFEST_NAME, HASHES_NAME, SIGNATURE_NAME}
    expect(not own & {name.casefold() for name, _ in names}, "no file has the name of the manifest")
    lines = hash_lines((name, "0" * 64) for name, _ in names).decode().splitlines()
    expect(len(lines) == len(names), "the hash file has one line per file")


TARGET = Target(
    subject="file names, for each kind of archive, and the manifest",
    documented=(),
    seeds=(
        joined(b"\0", "Contract", "anna@example.com", "ACME", "contract.pdf", "contract.pdf", "Contract.PDF"),
        joined(b"\2", "E", "a", "", "a.pdf", "a (2).pdf"),
        joined(b"\1", "..", "a/b", "", "CON", "con.txt", "counterfoil.json", ".counterfoil-1.tmp", "a" * 300),
        joined(
            b"\3", " a. ", "", "x", "\u202eabc", "e\u0301", "\u00e9", "a\u0345", "\ufb01.pdf", "\u1e9e.pdf"
        ),
        joined(
            b"\0", "a:b", "", "", "\ud83d".encode("utf-8", "surrogatepass"), "-", "a\nb", "%2e%2e", "\u0130i"
        ),
    ),
    words=(
        *(b".. / \\ \x00 CON counterfoil.json .counterfoil- .tmp (2) ~ %2f \xed\xa0\x80 \xff").split(b" "),
        "\u202e".encode(),
        "́".encode(),
        "ͅ".encode(),
        "İ".encode(),
        "ﬁ".encode(),
        "가".encode(),
        "ΐ".encode(),
    ),
    prepare=_prepare,
)
