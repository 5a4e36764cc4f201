"""``import``: import envelopes from before Counterfoil, and show how far an Import is."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shutil import get_terminal_size
from typing import TextIO

from counterfoil.cli.plugin.exit_status import (
    CommandError,
    ExitStatus,
    counted,
    format_answer,
    is_for_programs,
    load_for,
    printable,
)
from counterfoil.cli.plugin.search.estimate import ask_lines, estimate_lines
from counterfoil.cli.plugin.send_request import absence_text, find_absences, readable_organization
from counterfoil.i18n.attention import NOT_PROCESSED, is_unprocessed
from counterfoil.i18n.reasons import find_reason
from counterfoil.i18n.sizes import readable_bytes
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, ApiError, Forbidden, NotFound, Unavailable
from counterfoil.resources import (
    Archive,
    CleanupPolicy,
    Import,
    LocalObjectReference,
    Organization,
    Sender,
    find_condition,
)
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.resources.base import ObjectMeta
from counterfoil.resources.imports import (
    DEFAULT_SAMPLE,
    MAX_SAMPLE,
    ImportOrder,
    ImportSpec,
    ImportStatus,
    last_day,
)
from counterfoil.resources.routes import archive_names

SUMMARY = "import envelopes from before Counterfoil, or show how far that is"
DETAILS = (
    "With --from it creates an Import, which the controller carries out. --dry-run only counts. Without "
    "--from it shows an Import, those of an Organization, or with `status` all of the namespace. That of a "
    "dry run has an estimate of files, size and duration. `report NAME` checks the parts of the report of an "
    "Import and, with -o csv or -o jsonl, joins them. `suspend import NAME` pauses one. An Organization "
    "with cleanup.policy Delete deletes imported envelopes in eSAW too."
)

PAUSE_SECONDS = 2.0
"""Interval between two looks at an Import with --watch."""

MAX_FAILED_LOOKS = 30
"""Number of failed looks in sequence after which --watch ends, such as while the API server restarts."""

BAR_WIDTH = 20
"""Characters of the bar at a terminal."""

CLEAR_REST = "\x1b[K"
"""Lets a terminal remove the rest of the line (ECMA-48)."""

MAX_SHOWN = 10
"""Maximum number of Senders that are named."""

STATUS_WORD = "status"
"""Stands for all Imports of the namespace. An Organization of this name is shown by `status status`."""

REPORT_WORD = "report"
"""Stands for the report of the Import that is named after it."""

OUTPUTS = ("csv", "jsonl")
"""Additional output formats, of a report."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "names",
        nargs="+",
        metavar="ORG|NAME",
        help="name of an Organization or, without --from, of an Import. `status` shows all Imports of the "
        "namespace, `report NAME` the report of one",
    )
    parser.add_argument(
        "--from",
        dest="from_",
        type=_date,
        metavar="DATE",
        help="first day of sending, in UTC, as in 2019-01-31; creates an Import",
    )
    parser.add_argument("--until", type=_date, metavar="DATE", help="last day of sending. Default: now")
    parser.add_argument("--name", metavar="NAME", help="name of the Import. Default: ORG and the days")
    parser.add_argument("--dry-run", action="store_true", help="only count the envelopes")
    parser.add_argument(
        "--sample",
        type=_sample_size,
        metavar="NUMBER",
        help="with --dry-run: number of envelopes whose files are measured for the estimate. Default: "
        f"{DEFAULT_SAMPLE}",
    )
    parser.add_argument("--oldest-first", action="store_true", help="begin with the oldest envelopes")
    parser.add_argument(
        "--sender",
        action="append",
        default=[],
        metavar="SENDER",
        help="only envelopes of this Sender; may be repeated. Default: all of the Organization",
    )
    parser.add_argument(
        "--archive",
        metavar="NAME",
        help="Archive of the imported envelopes and of the report. Default: that of the Organization, and "
        "those of its routes",
    )
    parser.add_argument(
        "--watch", action="store_true", help="print the progress until the Import is complete or stalled"
    )
    parser.add_argument(
        "--public-key",
        type=Path,
        metavar="FILE",
        help="of a report: Ed25519 public key in PEM form; each part must be signed with its private key",
    )
    parser.add_argument(
        "--at",
        metavar="LOCATION",
        help="of a report: folder or s3://BUCKET/FOLDER with a copy of it",
    )


Sleep = Callable[[float], Awaitable[None]]


async def run(
    args: argparse.Namespace, kube: KubeClient, out: TextIO, *, sleep: Sleep = asyncio.sleep
) -> ExitStatus:
    """Create an Import, or show some. Raises ``CommandError``, ``ApiError``."""
    is_report = args.from_ is None and args.names[0] == REPORT_WORD and len(args.names) == 2
    if is_report:
        program = load_for("import report", "counterfoil.cli.plugin.search.import_report")
        exit_status: ExitStatus = await program.run(args, kube, out)
        return exit_status
    if args.output in OUTPUTS or args.public_key or args.at:
        raise CommandError(ExitStatus.MISUSED, "these flags are of a report: `import report NAME`")
    if args.from_ is None:
        return await _show_chosen(args, kube, out, sleep)
    if len(args.names) > 1:
        raise CommandError(ExitStatus.MISUSED, "an Import is of one Organization: give one name with --from")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    if args.from_ > today:
        raise CommandError(
            ExitStatus.MISUSED,
            f"--from {args.from_} is after today ({today} in UTC). An Import finds envelopes that were sent "
            "before the Import is created, so it would find none. Later envelopes come by callbacks and "
            "sweeps.",
        )
    if args.sample is not None and not args.dry_run:
        raise CommandError(ExitStatus.MISUSED, "--sample is of a dry run: add --dry-run")
    organization = Organization.parse(await kube.get(Organization, args.names[0]))
    imported = _new_import(args, organization.name)
    try:
        created = Import.parse(await kube.create(Import, imported.to_dict()))
    except AlreadyExists:
        words = f"Import/{imported.name} exists already. Choose another --name, or show it without --from."
        raise CommandError(ExitStatus.NOT_ALL, words) from None
    if not is_for_programs(args.output):
        out.write(f"Import/{created.name} is created.\n")
        said = await _beginning(kube, organization, created)
        if args.until is not None and args.until >= today:
            said.append(
                f"--until {args.until} is not over: the Import ends with its creation. What is sent later "
                "comes by callbacks and sweeps."
            )
        said += [] if args.dry_run else await _warnings(kube, organization, created)
        out.writelines(f"{printable(each)}\n" for each in said)
        out.flush()
    elif not args.watch:
        out.write(format_answer(args.output, created.to_dict()))
    return await _watch(kube, created.name, args.output, out, sleep) if args.watch else ExitStatus.DONE


async def _beginning(kube: KubeClient, organization: Organization, created: Import) -> list[str]:
    """Return whether a controller begins with the Import, in a sentence."""
    if absence := (await find_absences(kube, (created,), organization)).get(created.name):
        return [absence_text(absence, "the Import begins")]
    return [f"`kubectl counterfoil -n {kube.namespace} import {created.name}` shows whether it has begun."]


async def _warnings(kube: KubeClient, organization: Organization, created: Import) -> list[str]:
    """Return what a person may not expect of the Import, in sentences."""
    spec, found = organization.spec, []
    if spec.cleanup.policy is CleanupPolicy.DELETE:
        found.append(
            "cleanup.policy of the Organization is Delete: imported envelopes are deleted in "
            "eSignAnyWhere too. To stop it: "
            f"kubectl counterfoil -n {kube.namespace} suspend import {created.name}"
        )
    ref = created.spec.archive_ref
    own = [ref.name] if ref is not None else []
    for name in dict.fromkeys([*own, *archive_names(spec)]):
        try:
            archive = Archive.parse(await kube.get(Archive, name))
        except ApiError as problem:
            found.append(f"Archive/{name} was not read, so its spec.path is not checked: {problem}")
            continue
        if fields := _uncertain_fields(archive.spec):
            found.append(
                f"spec.path of Archive/{name} has {', '.join(fields)}. An event that was created again may "
                "have another value there. If the event of an archived envelope was removed, its files are "
                "stored a second time, in another folder."
            )
    return found


def _uncertain_fields(spec: ArchiveSpec) -> list[str]:
    """Return the placeholders of the path that depend on the Sender whose key reads the envelope, or on the
    parameters of a callback."""
    uncertain = ["{{sender.email}}", "{{sender.userID}}"]
    uncertain += [
        f"{{{{tags.{name}}}}}"
        for name, rule in spec.tags.items()
        if rule.callback is not None or "{{sender." in (rule.value or "")
    ]
    return [each for each in uncertain if each in spec.path]


def _date(text: str) -> str:
    """Read a day. Raises ``argparse.ArgumentTypeError``."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; write one as in 2019-01-31") from None
    return f"{day:%Y-%m-%d}"


def _sample_size(text: str) -> int:
    """Read the size of a sample. Raises ``argparse.ArgumentTypeError``."""
    if not text.isdecimal() or int(text) > MAX_SAMPLE:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MAX_SAMPLE}")
    return int(text)


async def _show_chosen(args: argparse.Namespace, kube: KubeClient, out: TextIO, sleep: Sleep) -> ExitStatus:
    is_sampled = args.sample is not None
    if args.until or args.dry_run or is_sampled or args.sender or args.oldest_first or args.archive:
        raise CommandError(ExitStatus.MISUSED, "an Import needs its first day: --from DATE")
    is_status = args.names[0] == STATUS_WORD
    names = args.names[1:] if is_status else args.names
    if len(names) > 1:
        raise CommandError(ExitStatus.MISUSED, "give one name: of an Import or of an Organization")
    found = await _named(kube, names[0]) if names else [each async for each in kube.list_readable(Import)]
    chosen = [each for each in found if args.name in (None, each.name)]
    if not chosen and (names or args.name):
        what = " ".join(each for each in (*names, args.name) if each)
        raise CommandError(
            ExitStatus.NOT_FOUND, f"no Import in namespace {kube.namespace} is chosen by this: {what}"
        )
    if not args.watch:
        return await _show(kube, chosen, args.output, out)
    if len(chosen) != 1:
        raise CommandError(ExitStatus.MISUSED, "--watch shows one Import: give its name")
    if not is_for_programs(args.output):
        await _tell_standstill(kube, chosen, out)
    return await _watch(kube, chosen[0].name, args.output, out, sleep)


async def _named(kube: KubeClient, name: str) -> list[Import]:
    """Return the Imports of the Organization of this name, or else the Import of this name."""
    fields = f"spec.organizationRef.name={name}"
    if found := [each async for each in kube.list_readable(Import, fields=fields)]:
        return found
    try:
        return [Import.parse(await kube.get(Import, name))]
    except NotFound:
        return []


def _new_import(args: argparse.Namespace, organization: str) -> Import:
    days = "-".join(each for each in (args.from_, args.until) if each)
    default = f"{organization}-{days}{'-count' if args.dry_run else ''}"
    return Import(
        metadata=ObjectMeta(name=args.name or default),
        spec=ImportSpec(
            organization_ref=LocalObjectReference(name=organization),
            from_=args.from_,
            until=args.until,
            order=ImportOrder.OLDEST_FIRST if args.oldest_first else ImportOrder.NEWEST_FIRST,
            sender_refs=tuple(LocalObjectReference(name=each) for each in dict.fromkeys(args.sender)),
            archive_ref=LocalObjectReference(name=args.archive) if args.archive else None,
            dry_run=args.dry_run,
            sample_size=DEFAULT_SAMPLE if args.sample is None else args.sample,
        ),
    )


async def _show(kube: KubeClient, imports: list[Import], output: str, out: TextIO) -> ExitStatus:
    if is_for_programs(output):
        out.write(format_answer(output, [each.to_dict() for each in imports]))
    elif not imports:
        out.write("The namespace has no Imports.\n")
    else:
        out.write("\n".join(describe(each) for each in imports))
        if len(imports) == 1:
            out.write("".join(f"{each}\n" for each in await _advice(kube, imports[0])))
        await _tell_standstill(kube, imports, out)
    is_wrong = any(_is_stalled(each) or each.status.failed for each in imports)
    return ExitStatus.NOT_ALL if is_wrong else ExitStatus.DONE


async def _tell_standstill(kube: KubeClient, imports: Sequence[Import], out: TextIO) -> None:
    """Print why no controller works on the Imports that are not complete, or that none has begun."""
    unfinished = [each for each in imports if each.status.completion_time is None]
    if not unfinished:
        return
    known = await readable_organization(kube, unfinished[0].organization)
    absences = await find_absences(kube, unfinished, known)
    found = dict.fromkeys(absence_text(each, "Imports continue") for each in absences.values())
    if not absences and any(is_unprocessed(each, datetime.now(UTC)) for each in unfinished):
        texts = find_reason(NOT_PROCESSED).localized_text()
        found[f"{NOT_PROCESSED}: {texts.what} {texts.do}"] = None
    out.writelines(f"{printable(each)}\n" for each in found)
    out.flush()


async def _watch(kube: KubeClient, name: str, output: str, out: TextIO, sleep: Sleep) -> ExitStatus:
    last, failed, is_terminal = "", 0, out.isatty()
    while True:
        try:
            imported = Import.parse(await kube.get(Import, name))
        except Unavailable:
            failed += 1
            if failed >= MAX_FAILED_LOOKS:
                raise
            await sleep(PAUSE_SECONDS)
            continue
        failed = 0
        is_over = imported.status.completion_time is not None or _is_stalled(imported)
        if (line := progress(imported)) != last and not is_for_programs(output):
            out.write(bar_line(imported, line) if is_terminal else f"{line}\n")
            out.flush()
        last = line
        if is_over:
            out.write("\n" if is_terminal and not is_for_programs(output) else "")
            return await _show(kube, [imported], output, out)
        await sleep(PAUSE_SECONDS)


async def _advice(kube: KubeClient, imported: Import) -> list[str]:
    """Return the estimate of a dry run, and the command that asks for missing keys; less without the
    rights."""
    try:
        organization = Organization.parse(await kube.get(Organization, imported.organization))
    except (NotFound, Forbidden):
        return []
    lines = list[str]()
    try:
        if imported.spec.dry_run:
            lines += estimate_lines(imported, organization)
        if imported.status.lacking_senders:
            fields = f"spec.organizationRef.name={organization.name}"
            senders = [each async for each in kube.list_readable(Sender, fields=fields)]
            lines += ask_lines(imported, organization, senders, kube.namespace)
    except Forbidden as refused:
        lines.append(f"you lack a right for the rest: {printable(str(refused))}")
    return lines


def _is_stalled(imported: Import) -> bool:
    stalled = find_condition(imported.status.conditions, "Stalled")
    return stalled is not None and stalled.status == "True"


def bar_line(imported: Import, line: str) -> str:
    """Return a line of a terminal with a bar, which replaces the one before and is never wider than the
    terminal."""
    if imported.spec.copies_only:
        # It has no windows, so no part of the work is known.
        return f"\r{line[: get_terminal_size().columns - 1]}{CLEAR_REST}"
    filled = BAR_WIDTH * imported.status.windows.percent // 100
    bar = f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {line.strip()}"
    return f"\r{bar[: get_terminal_size().columns - 1]}{CLEAR_REST}"


def progress(imported: Import) -> str:
    """Return the progress in one line."""
    status = imported.status
    if imported.spec.copies_only:
        return (
            f"{counted(status.found, 'archived envelope')} found, {status.known} had all copies, "
            f"{status.archived} got them, {status.failed} failed"
        )
    return (
        f"{status.windows.percent:3} % of the search: {counted(status.found, 'envelope')} found, "
        f"{status.known} known, {status.archived} archived, {status.failed} failed"
    )


def describe(imported: Import) -> str:
    """Return what a person wants to know about an Import, in lines."""
    status, spec = imported.status, imported.spec
    ready = find_condition(status.conditions, "Ready")
    end = last_day(imported)
    cut = f", not to {spec.until}" if spec.until is not None and end is None else ""
    span = f"{spec.from_} to {end or 'its creation'}{cut}"
    if spec.copies_only:
        span += ", only copies"
    elif spec.archive_ref is not None:
        span += f", into Archive/{spec.archive_ref.name}"
    lines = [f"Import/{imported.name} ({span}{', only counted' if spec.dry_run else ''})", progress(imported)]
    if status.reopened:
        verb = "would start" if spec.dry_run else "started"
        lines.append(f"{status.reopened} of the known ones {verb} again: they ended without an archive")
    if status.refused:
        refused = counted(status.refused, "envelope")
        lines.append(f"{refused} without an event: the log of the controller has the reason")
    if ready is not None:
        lines.append(f"{ready.reason}: {printable(ready.message)}")
    lines += _speed(status)
    if status.estimated_completion_time is not None and status.completion_time is None:
        lines.append(f"estimated end: {status.estimated_completion_time:%Y-%m-%d %H:%M} UTC")
    lines += [f"{each.year} {printable(each.status)}: {each.found}" for each in status.groups]
    if spec.dry_run:
        lines += _by_sender(status)
    troubled = [each for each in status.senders if each.reason]
    lines += [
        f"Sender/{each.name}: {each.reason}. {printable(each.message or '')}" for each in troubled[:MAX_SHOWN]
    ]
    if len(troubled) > MAX_SHOWN:
        lines.append(f"and {len(troubled) - MAX_SHOWN} more Senders")
    return "".join(f"{each}\n" for each in lines)


def _speed(status: ImportStatus) -> list[str]:
    """Return the size of what was archived, how far the search is, and how fast, in lines."""
    lines = [f"archived: {readable_bytes(status.bytes)}"] if status.bytes else []
    if status.cursor is not None and status.completion_time is None:
        lines.append(f"reached: {status.cursor}")
    return lines if status.rate is None else [*lines, f"rate: {counted(status.rate, 'envelope')} per hour"]


def _by_sender(status: ImportStatus) -> list[str]:
    """Return how many envelopes eSAW listed for each Sender, the most first, in lines."""
    found = sorted((each for each in status.senders if each.found), key=lambda each: -each.found)
    lines = [f"Sender/{each.name}: {counted(each.found, 'envelope')}" for each in found[:MAX_SHOWN]]
    if others := found[MAX_SHOWN:]:
        envelopes = counted(sum(each.found for each in others), "envelope")
        lines.append(f"{counted(len(others), 'other Sender')}: {envelopes}")
    return lines
