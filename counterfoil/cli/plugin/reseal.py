"""``reseal``: encrypt every sender's key with the newest sealing key; see ``counterfoil.cli.reseal``."""

import argparse
from pathlib import Path
from typing import TextIO

from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_json
from counterfoil.cli.plugin.on_demand import load
from counterfoil.clock import WallClock
from counterfoil.kube.client import KubeClient

SUMMARY = "encrypt every sender's key with the newest sealing key"
DETAILS = (
    "Needs a folder with all sealing keys on this machine, and the right to get and patch the Secrets of the "
    "senders. You can interrupt and repeat the command; all processes keep running."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--sealing-keys", type=Path, required=True, metavar="FOLDER", help="folder with one file per key id"
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Reseal everything. Raises ``CommandError``, ``ApiError``."""
    reseal, sealing_module = (
        load("reseal", each) for each in ("counterfoil.cli.reseal", "counterfoil.sealing")
    )
    try:
        sealing = sealing_module.Sealing(args.sealing_keys)
    except sealing_module.SealingKeysInvalid as invalid:
        raise CommandError(ExitStatus.MISUSED, str(invalid)) from None
    try:
        report = await reseal.reseal(kube, sealing, WallClock())
    except reseal.NewestKeyRefused as refused:
        raise CommandError(ExitStatus.NOT_ALL, str(refused)) from None
    lines = report.lines()
    counts = {outcome.name.lower(): report.counts[outcome] for outcome in reseal.ResealOutcome}
    out.write(format_json(counts) if args.output == "json" else "".join(f"{each}\n" for each in lines))
    return ExitStatus.NOT_ALL if report.counts[reseal.ResealOutcome.FAILED] else ExitStatus.DONE
