"""``sweep``: look now for finished envelopes whose callback never came."""

import argparse
import asyncio
from datetime import UTC, datetime
from typing import TextIO

from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_json
from counterfoil.kube.client import KubeClient
from counterfoil.resources import SWEEP_ANNOTATION, Organization
from counterfoil.resources.naming import UNSHARDED_WORK
from counterfoil.resources.organization import MAX_SWEEP_REQUEST_LENGTH, SweepResult
from counterfoil.resources.shard_leases import unheld_owner

SUMMARY = "look now for finished envelopes whose callback never came"
DETAILS = (
    "Asks by the annotation counterfoil.dev/sweep and waits for the controller's answer in status.sweep. "
    "Looks back as far as spec.sweep.lookback says, from the time of sending."
)
PAUSE_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("organization", metavar="ORG", help="name of the Organization")
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long to wait; 0: only ask. Default: 120",
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Ask for it and say what was found. Raises ``CommandError``, ``ApiError``."""
    # The time makes the value unique; the name shows readers who asked.
    request = f"{datetime.now(UTC).isoformat()} {await kube.whoami()}"[:MAX_SWEEP_REQUEST_LENGTH]
    await kube.patch(
        Organization, args.organization, {"metadata": {"annotations": {SWEEP_ANNOTATION: request}}}
    )
    if args.timeout == 0:
        out.write(format_json({"asked": request}) if args.output == "json" else "asked for\n")
        return ExitStatus.DONE
    now, leases = datetime.now(UTC), await kube.shard_leases()
    if leases is not None and (absence := unheld_owner(leases, *UNSHARDED_WORK, now)) is not None:
        raise CommandError(
            ExitStatus.NOT_ALL,
            f"no controller works, so the sweep takes place when one runs. {absence} "
            "Check the controller's pods.",
        )
    try:
        async with asyncio.timeout(args.timeout):
            swept = await _answer(kube, args.organization, request)
    except TimeoutError:
        raise CommandError(
            ExitStatus.NOT_ALL,
            f"the controller has not answered within {args.timeout:g} s. It will when it runs and reaches "
            f"eSignAnyWhere; see status.sweep of Organization/{args.organization}.",
        ) from None
    message = f"{swept.found} finished envelopes had no event; they have one now\n"
    out.write(format_json(swept) if args.output == "json" else message)
    return ExitStatus.DONE


async def _answer(kube: KubeClient, name: str, request: str) -> SweepResult:
    while True:
        swept = Organization.parse(await kube.get(Organization, name)).status.sweep
        if swept is not None and swept.request == request:
            return swept
        await asyncio.sleep(PAUSE_SECONDS)
