"""``retry``: try events again now, from a final phase as well as from a pause."""

import argparse
from typing import TextIO

from counterfoil.cli.plugin import request
from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.kube.client import KubeClient
from counterfoil.resources import Phase

SUMMARY = "try events again now"
DETAILS = "From a final phase as well as from a pause. What was filed is recognised and not filed twice."

add_arguments = request.add_arguments


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Ask for it. Raises ``CommandError``, ``ApiError``."""
    return await request.request_for_events("retry", frozenset({Phase.SUCCEEDED}), args, kube, out)
