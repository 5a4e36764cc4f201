"""``sweep``: look now for finished envelopes whose callback never came."""

import argparse
from typing import TextIO

from counterfoil.cli.plugin import selection
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_result, printable
from counterfoil.cli.plugin.send_request import absence_text, find_absences, make_request, wait_for_answer
from counterfoil.kube.client import KubeClient
from counterfoil.resources import Organization, RequestOutcome

SUMMARY = "look now for finished envelopes whose callback never came"
DETAILS = (
    "Asks by the label counterfoil.dev/request=sweep and waits for the controller's answer in "
    "status.lastRequest. "
    "Looks back as far as spec.sweep.lookback says, from the time of sending."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "organization",
        type=selection.object_name(Organization),
        metavar="ORG",
        help="name of the Organization",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long to wait; 0: only ask. Default: 120",
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Ask for it and say what was found. Raises ``CommandError``, ``ApiError``."""
    id_ = await make_request(kube, Organization, args.organization, "sweep")
    if args.timeout == 0:
        return await _asked(args, kube, out, id_)
    organization, last = await wait_for_answer(kube, Organization, args.organization, id_, args.timeout)
    swept = organization.status.sweep
    if last.outcome is not RequestOutcome.DONE:
        raise CommandError(ExitStatus.NOT_ALL, f"the sweep did not take place: {last.message}")
    if swept is None or not swept.complete:
        raise CommandError(ExitStatus.NOT_ALL, f"the sweep is not complete. {last.message}")
    out.write(format_result(args.output, swept, f"{printable(last.message or '')}\n"))
    return ExitStatus.DONE


async def _asked(args: argparse.Namespace, kube: KubeClient, out: TextIO, id_: str) -> ExitStatus:
    """Print that the request is made, without its result."""
    organization = Organization.parse(await kube.get(Organization, args.organization))
    answer, lines = {"asked": id_}, ["asked for"]
    if absence := await find_absences(kube, (organization,)):
        words = absence_text(absence[organization.name], "the sweep begins")
        answer, lines = {**answer, "says": words}, [*lines, printable(words)]
    out.write(format_result(args.output, answer, "".join(f"{each}\n" for each in lines)))
    return ExitStatus.DONE
