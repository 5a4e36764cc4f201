"""``skip``: give events up on purpose."""

import argparse
from typing import TextIO

from counterfoil.cli.plugin import request
from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.kube.client import KubeClient
from counterfoil.resources import Phase

SUMMARY = "give events up on purpose"
DETAILS = "The envelope stays in eSignAnyWhere. A new callback, or retry, takes it up again."

add_arguments = request.add_arguments


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Ask for it. Raises ``CommandError``, ``ApiError``."""
    return await request.request_for_events(
        "skip", frozenset({Phase.SUCCEEDED, Phase.SKIPPED}), args, kube, out
    )
