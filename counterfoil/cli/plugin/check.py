"""``check``: ask eSAW, read-only, whether it behaves as Counterfoil assumes."""

import argparse
import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import TextIO

from counterfoil.cli.plugin import selection
from counterfoil.cli.plugin.exit_status import (
    CommandError,
    ExitStatus,
    format_result,
    is_for_programs,
    printable,
)
from counterfoil.cli.plugin.send_request import make_request, wait_for_answer
from counterfoil.esaw_check.facts import profile_of
from counterfoil.kube.client import KubeClient
from counterfoil.logs import redact
from counterfoil.resources import Organization, RequestOutcome, envelope_id
from counterfoil.resources.organization import CheckOutcome, OrganizationCheck, OrganizationCheckResult

SUMMARY = "ask eSignAnyWhere, read-only, whether it behaves as Counterfoil assumes"
DETAILS = (
    "Asks by the label counterfoil.dev/request=check. The controller uses the key of the default Sender, "
    "else of any authorized Sender, and writes the result into status.check. One line per assumption: as "
    "expected, deviates (with the setting to change), or not testable. -o json prints a report to send in, "
    "without tokens, names, addresses, hosts and ids. Exit status 1: something deviates, or no check took "
    "place."
)

PROGRESS_SECONDS = 10.0
"""Interval between lines that say that the check still runs."""

OUTCOME_TEXTS = {
    CheckOutcome.AS_EXPECTED: "as expected",
    CheckOutcome.DEVIATES: "deviates",
    CheckOutcome.NOT_TESTABLE: "not testable",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "organization",
        type=selection.object_name(Organization),
        metavar="ORG",
        help="name of the Organization",
    )
    parser.add_argument("--envelope", metavar="ID", help="GUID of a finished envelope to check as well")
    parser.add_argument("--draft", metavar="ID", help="GUID of a draft to check as well")
    parser.add_argument(
        "--timeout", type=float, default=240.0, metavar="SECONDS", help="how long to wait. Default: 240"
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Ask for it and print what was found. Raises ``CommandError``, ``ApiError``."""
    parameters = {
        name: _guid(name, text) for name in ("envelope", "draft") if (text := getattr(args, name)) is not None
    }
    id_ = await make_request(kube, Organization, args.organization, "check", parameters=parameters)
    async with _progress(out, is_shown=not is_for_programs(args.output)):
        organization, last = await wait_for_answer(kube, Organization, args.organization, id_, args.timeout)
    check = organization.status.check
    if last.outcome is not RequestOutcome.DONE or check is None:
        raise CommandError(ExitStatus.NOT_ALL, f"the check did not take place: {last.message}")
    out.write(format_result(args.output, profile_of(check), page(check)))
    deviates = any(each.outcome is CheckOutcome.DEVIATES for each in check.results)
    return ExitStatus.NOT_ALL if deviates else ExitStatus.DONE


def page(check: OrganizationCheck) -> str:
    """Return the result as text, one line per assumption."""
    counts = Counter(each.outcome for each in check.results)
    summary = ", ".join(f"{counts[outcome]} {text}" for outcome, text in OUTCOME_TEXTS.items())
    version = f"eSignAnyWhere {check.version}: " if check.version else ""
    lines = [*map(_line, check.results), "", f"{version}{summary}"]
    return "".join(f"{printable(redact(line))}\n" for line in lines)


def _line(result: OrganizationCheckResult) -> str:
    found = f"[{result.found}] " if result.found is not None else ""
    setting = f" Change: {result.setting}." if result.setting is not None else ""
    return f"{OUTCOME_TEXTS[result.outcome]:<13}{result.id:<24}{found}{result.message}{setting}"


def _guid(name: str, text: str) -> str:
    try:
        return envelope_id(text)
    except ValueError:
        raise CommandError(ExitStatus.MISUSED, f"--{name} {text!r} is no GUID") from None


@contextlib.asynccontextmanager
async def _progress(out: TextIO, *, is_shown: bool) -> AsyncIterator[None]:
    """Say at intervals that the check still runs."""

    async def tell() -> None:
        seconds = 0.0
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            seconds += PROGRESS_SECONDS
            out.write(f"the check has run for {seconds:g} s\n")
            out.flush()

    task = asyncio.create_task(tell()) if is_shown else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
