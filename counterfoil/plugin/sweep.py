"""``sweep``: look now for finished envelopes whose callback never came."""

import argparse
import asyncio
from datetime import UTC, datetime
from typing import TextIO

from counterfoil.cluster import Cluster
from counterfoil.plugin.outcome import Ending, Stopped, as_json
from counterfoil.resources import SWEEP_ANNOTATION, Organization
from counterfoil.resources.organization import LONGEST_SWEEP_REQUEST, Swept

SUMMARY = "look now for finished envelopes whose callback never came"
DETAILS = (
    "Asks by the annotation counterfoil.dev/sweep and waits for the controller's answer in status.sweep. Works without "
    "spec.sweep too, and then looks 72 hours back."
)
PAUSE_SECONDS = 0.5


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("organization", metavar="ORG", help="name of the Organization")
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long to wait; 0: only ask. Default: 120",
    )


async def run(chosen: argparse.Namespace, cluster: Cluster, out: TextIO) -> Ending:
    """Ask for it and say what was found. Raises ``Stopped``, ``ApiProblem``."""
    # The time makes it another value than the last one; the name is for whoever reads it.
    request = f"{datetime.now(UTC).isoformat()} {await cluster.whoami()}"[:LONGEST_SWEEP_REQUEST]
    await cluster.patch(
        Organization, chosen.organization, {"metadata": {"annotations": {SWEEP_ANNOTATION: request}}}
    )
    if chosen.timeout == 0:
        out.write(as_json({"asked": request}) if chosen.output == "json" else "asked for\n")
        return Ending.DONE
    try:
        async with asyncio.timeout(chosen.timeout):
            swept = await _answer(cluster, chosen.organization, request)
    except TimeoutError:
        raise Stopped(
            Ending.NOT_ALL,
            f"the controller has not answered within {chosen.timeout:g} s. It will when it runs and reaches eSignAnyWhere; "
            f"see status.sweep of Organization/{chosen.organization}.",
        ) from None
    told = f"{swept.found} finished envelopes had no event; they have one now\n"
    out.write(as_json(swept) if chosen.output == "json" else told)
    return Ending.DONE


async def _answer(cluster: Cluster, name: str, request: str) -> Swept:
    while True:
        swept = Organization.parse(await cluster.get(Organization, name)).status.sweep
        if swept is not None and swept.request == request:
            return swept
        await asyncio.sleep(PAUSE_SECONDS)
