"""
The path and tags that an envelope would get: ``python -m counterfoil.cli.render``.

Try the path and tags of an Archive without storing anything. No archive is opened. The Archive is read from a
file, so that a change can be tried before it is applied. The envelope is a sample (`--envelope`, `--files`,
`--metadata`), or a past one of an event (`--event`). Its metadata is not stored, so it has to be given again.
Exit status: 0 it works, 1 there are problems, 2 the input can't be used.
"""

import argparse
import asyncio
import inspect
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import yaml

from counterfoil.archives.layout import (
    ActionFacts,
    ArchiveLayout,
    EnvelopeFacts,
    FileFacts,
    make_layout,
    no_claims,
    problems,
)
from counterfoil.archives.tags import MetadataUnreadable, TagMissing
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import ApiError, NotConfigured
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    FileKind,
    Organization,
    ResourceInvalid,
    Sender,
)
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.resources.routes import import_choice, known_choice, last_choice

RENDERED, PROBLEMS, INPUT_INVALID = 0, 1, 2

SAMPLE_ENVELOPE = EnvelopeFacts(
    organization="acme",
    envelope_id="00000000-0000-4000-8000-000000000000",
    name="Contract",
    status="Completed",
    sender_email="anna@acme.example",
    sender_user_id="1",
    sent_date="2026-01-31T09:30:00Z",
)
SAMPLE_FILES = "contract.pdf,AuditTrail:"
ENVELOPE_FIELDS: Mapping[str, str] = {
    "organization": "organization",
    "id": "envelope_id",
    "name": "name",
    "status": "status",
    "sentDate": "sent_date",
    "senderEmail": "sender_email",
    "senderUserId": "sender_user_id",
}
"""Keys of ``--envelope``, each with its field of ``EnvelopeFacts``."""


class InputInvalid(Exception):
    """The input can't be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class RenderInput:
    """An Archive and an envelope that is to go into it."""

    archive: ArchiveSpec
    envelope: EnvelopeFacts
    files: tuple[FileFacts, ...]


def main(
    argv: Sequence[str],
    environ: Mapping[str, str],
    out: TextIO,
    *,
    program: str = "python -m counterfoil.cli.render",
) -> int:
    """Render what the arguments name, write it, and return the exit status."""
    args = parser(program).parse_args(argv)
    try:
        case = asyncio.run(_load_input(args, environ))
    except (InputInvalid, ResourceInvalid, NotConfigured, ApiError) as problem:
        print(f"counterfoil.cli.render: {problem}", file=sys.stderr)
        return INPUT_INVALID
    rendered = render(case)
    if isinstance(rendered, ArchiveLayout):
        out.write("".join(f"{line}\n" for line in _lines(rendered, case.archive)))
        return RENDERED
    out.write("".join(f"problem   {each}\n" for each in rendered))
    return PROBLEMS


def render(case: RenderInput) -> ArchiveLayout | list[str]:
    """Return where everything would go; or what is wrong, one sentence each."""
    faults = problems(case.archive)
    try:
        _ = case.archive.kind
    except ValueError as fault:
        faults.insert(0, f"spec: {fault}")
    if faults:
        return [f"{each}." for each in faults]
    try:
        return make_layout(case.archive, case.envelope, case.files, claimed=no_claims)
    except TagMissing as problem:
        name = problem.rule.callback
        hint = _metadata_hint(case) if name is None else f" To give one: --parameter {name}=VALUE."
        return [f"{problem}{hint}"]
    except MetadataUnreadable as problem:
        return [f"{problem}{_metadata_hint(case)}"]


def _metadata_hint(case: RenderInput) -> str:
    return "" if case.envelope.metadata else " No metadata was given; do so with --metadata FILE."


def _lines(layout: ArchiveLayout, archive: ArchiveSpec) -> Iterator[str]:
    yield f"folder    {layout.folder}"
    for name in sorted(archive.tags):
        found = f"= {layout.tags[name]}" if name in layout.tags else "is not found, and not required"
        yield f"tag       {name} {found}"
    for each in layout.files:
        yield f"file      {layout.relative(each.name)}  ({each.facts.kind}, {each.content_type})"
    yield f"manifest  {layout.relative(layout.manifest_name)}"


# -- Where the input comes from ------------------------------------------------------------------------------


async def _load_input(args: argparse.Namespace, environ: Mapping[str, str]) -> RenderInput:
    metadata = _text(args.metadata).encode() if args.metadata is not None else None
    if args.event is not None:
        async with connect(namespace=args.namespace or environ.get("COUNTERFOIL_NAMESPACE")) as kube:
            return await _input_from_event(kube, args, metadata)
    if args.archive is None:
        raise InputInvalid("give --archive FILE, or --event NAME; --help explains both")
    return RenderInput(
        archive=_archive(args.archive),
        envelope=replace(_sample_envelope(args.envelope, metadata), actions=(_callback(args.parameter),)),
        files=_files(args.files or SAMPLE_FILES),
    )


async def _input_from_event(
    kube: KubeClient, args: argparse.Namespace, metadata: bytes | None
) -> RenderInput:
    event = EnvelopeEvent.parse(await kube.get(EnvelopeEvent, args.event))
    archive = _archive(args.archive) if args.archive is not None else await _archive_of(kube, event)
    sender = event.metadata.labels.get(SENDER_LABEL)
    spec = Sender.parse(await kube.get(Sender, sender)).spec if sender is not None else None
    summary = event.status.envelope
    envelope = EnvelopeFacts(
        organization=event.organization,
        envelope_id=event.spec.envelope_id,
        name=summary.name if summary is not None else "",
        status=summary.status if summary is not None else "",
        sender_email=(spec.email or "") if spec is not None else "",
        sender_user_id=spec.user_id if spec is not None else "",
        metadata=metadata,
        actions=(_callback(args.parameter, event.parameters),),
    )
    listed = tuple((each.kind, each.file_name, each.file_id) for each in event.status.documents)
    if not listed and args.files is None:
        raise InputInvalid(f"EnvelopeEvent/{event.name} lists no files yet; give some with --files")
    return RenderInput(archive, envelope, _files(args.files) if args.files else _numbered(listed))


def _callback(given: Sequence[str], stored: Mapping[str, str] | None = None) -> ActionFacts:
    """The callback with the parameters of the arguments, which replace those of the event."""
    parameters = dict(stored or {})
    for each in given:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise InputInvalid(f"--parameter {each} must be NAME=VALUE")
        same = [known for known in parameters if known.lower() == name.lower()]
        for known in same:
            del parameters[known]
        parameters[name] = value
    return ActionFacts(action="", time="", parameters=parameters)


async def _archive_of(kube: KubeClient, event: EnvelopeEvent) -> ArchiveSpec:
    """The Archive that the event has chosen, else the one that its Organization names now."""
    choice = last_choice(event.status)
    if choice is None:
        spec = Organization.parse(await kube.get(Organization, event.organization)).spec
        choice, lacks = known_choice(event, spec), "no spec.archiveRef"
        if choice is None:
            lacks = "routes, and the event has not chosen an Archive" if spec.routes else lacks
            if import_choice(event) is not None:
                lacks = "an Import with an Archive, and the event has not chosen one"
            raise InputInvalid(f"Organization/{event.organization} has {lacks}; give --archive FILE")
    return Archive.parse(await kube.get(Archive, choice.archive)).spec


def _archive(path: Path) -> ArchiveSpec:
    try:
        documents = list(yaml.safe_load_all(_text(path)))
    except yaml.YAMLError as error:
        raise InputInvalid(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    found = [each for each in documents if isinstance(each, dict) and each.get("kind") == "Archive"]
    if len(found) != 1:
        raise InputInvalid(f"{path} must have one Archive; it has {len(found) or 'none'}")
    return Archive.parse(found[0]).spec


def _sample_envelope(text: str | None, metadata: bytes | None) -> EnvelopeFacts:
    try:
        given = json.loads(text or "{}")
    except ValueError as error:
        raise InputInvalid(f"--envelope is no JSON: {error}") from error
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise InputInvalid('--envelope must be a JSON object of texts, as in {"name": "Contract"}')
    if unknown := sorted(set(given) - set(ENVELOPE_FIELDS)):
        raise InputInvalid(
            f"--envelope can't have {', '.join(unknown)}; there are {', '.join(ENVELOPE_FIELDS)}"
        )
    return replace(
        SAMPLE_ENVELOPE, metadata=metadata, **{ENVELOPE_FIELDS[key]: value for key, value in given.items()}
    )


def _files(text: str) -> tuple[FileFacts, ...]:
    listed: list[tuple[FileKind, str, str]] = []
    for each in filter(None, map(str.strip, text.split(","))):
        kind, _, name = each.partition(":")
        is_kind = kind in list(FileKind)
        listed.append((FileKind(kind), name, "") if is_kind else (FileKind.DOCUMENT, each, ""))
    return _numbered(listed)


def _numbered(listed: Sequence[tuple[FileKind, str, str]]) -> tuple[FileFacts, ...]:
    """Count the files of each kind, as eSAW's list is counted."""
    numbers: Counter[FileKind] = Counter()
    facts = []
    for kind, name, file_id in listed:
        numbers[kind] = number = numbers[kind] + 1
        facts.append(FileFacts(file_id or f"{kind}-{number}", kind, name, number))
    return tuple(facts)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid(f"{path} can't be read as text ({type(error).__name__})") from error


def parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of the arguments, for a program of that name."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=inspect.cleandoc(__doc__ or "").partition("\n\n")[2],
        epilog=(
            "$KUBECONFIG is honoured with --event; without it the pod's own account is used, else "
            "~/.kube/config."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--archive", type=Path, metavar="FILE", help="YAML file with the Archive")
    parser.add_argument("--metadata", type=Path, metavar="FILE", help="the envelope's metadata, XML or JSON")
    parser.add_argument(
        "--envelope",
        metavar="JSON",
        help=(
            f"what the envelope is like: a JSON object with some of {', '.join(ENVELOPE_FIELDS)}; the rest "
            "is made up"
        ),
    )
    parser.add_argument(
        "--files",
        metavar="LIST",
        help=(
            "names of its files, with commas between and a kind in front of those that are no documents. "
            f"Default: {SAMPLE_FILES}"
        ),
    )
    parser.add_argument(
        "--parameter",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=(
            "a parameter of the callback URL that spec.callback.parameters of the Organization lists; may be "
            "repeated. With --event, those of the event are used, too"
        ),
    )
    parser.add_argument("--event", metavar="NAME", help="a past envelope, by the name of its EnvelopeEvent")
    parser.add_argument("-n", "--namespace", help="of the event. Environment: COUNTERFOIL_NAMESPACE.")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ, sys.stdout))
