"""``retry``: try events again now, from a final phase as well as from a pause."""

import argparse
from typing import TextIO

from counterfoil.cluster import Cluster
from counterfoil.plugin import requesting
from counterfoil.plugin.outcome import Ending
from counterfoil.resources import Phase

SUMMARY = "try events again now"
DETAILS = "From a final phase as well as from a pause. What was filed is recognised and not filed twice."

arguments = requesting.arguments


async def run(chosen: argparse.Namespace, cluster: Cluster, out: TextIO) -> Ending:
    """Ask for it. Raises ``Stopped``, ``ApiProblem``."""
    return await requesting.ask("retry", frozenset({Phase.SUCCEEDED}), chosen, cluster, out)
