"""``reseal``: seal every sender's key anew with the newest sealing key; see ``counterfoil.reseal``."""

import argparse
from pathlib import Path
from typing import TextIO

from counterfoil import reseal
from counterfoil.cluster import Cluster
from counterfoil.plugin.outcome import Ending, Stopped, as_json
from counterfoil.sealing import Sealing, SealingKeysInvalid

SUMMARY = "seal every sender's key anew with the newest sealing key"
DETAILS = (
    "Needs a folder with all sealing keys on this machine, and the right to get and patch the Secrets of the senders. It may be "
    "broken off and begun again; everything works meanwhile."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--sealing-keys", type=Path, required=True, metavar="FOLDER", help="folder with one file per key id"
    )


async def run(chosen: argparse.Namespace, cluster: Cluster, out: TextIO) -> Ending:
    """Reseal everything. Raises ``Stopped``, ``ApiProblem``."""
    try:
        sealing = Sealing(chosen.sealing_keys)
    except SealingKeysInvalid as invalid:
        raise Stopped(Ending.MISUSED, str(invalid)) from None
    report = await reseal.reseal(cluster, sealing)
    lines = report.lines(sealing)
    counts = {outcome.name.lower(): report.counts[outcome] for outcome in reseal.Outcome}
    out.write(as_json(counts) if chosen.output == "json" else "".join(f"{each}\n" for each in lines))
    return Ending.NOT_ALL if report.counts[reseal.Outcome.FAILED] else Ending.DONE
