"""``skip``: give events up on purpose."""

import argparse
from typing import TextIO

from counterfoil.cluster import Cluster
from counterfoil.plugin import requesting
from counterfoil.plugin.outcome import Ending
from counterfoil.resources import Phase

SUMMARY = "give events up on purpose"
DETAILS = "The envelope stays in eSignAnyWhere. A new callback, or retry, takes it up again."

arguments = requesting.arguments


async def run(chosen: argparse.Namespace, cluster: Cluster, out: TextIO) -> Ending:
    """Ask for it. Raises ``Stopped``, ``ApiProblem``."""
    return await requesting.ask("skip", frozenset({Phase.SUCCEEDED, Phase.SKIPPED}), chosen, cluster, out)
