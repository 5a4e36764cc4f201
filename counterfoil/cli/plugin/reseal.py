"""``reseal``: encrypt every sender's key with the newest sealing key; see ``counterfoil.cli.reseal``."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_result, load_for
from counterfoil.clock import WallClock
from counterfoil.kube.client import KubeClient

SUMMARY = "encrypt every sender's key with the newest sealing key"
DETAILS = (
    "Needs a folder with all sealing keys on this machine, and the right to get and patch the Secrets of the "
    "senders. Without --digest it changes nothing: it prints the keys, and the digest to seal exactly these. "
    "It does so in one namespace. All namespaces of a release need the same sealing keys, so remove one "
    "after the run in the last of them. "
    "You can interrupt and repeat the command; all processes keep running."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--sealing-keys", type=Path, required=True, metavar="FOLDER", help="folder with one file per key id"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--dry-run", action="store_true", help="change nothing, as without --digest")
    group.add_argument(
        "--digest",
        metavar="DIGEST",
        help="seal the keys again for which the command without it prints the same digest now",
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Show what would be sealed again, or seal what was shown. Raises ``CommandError``, ``ApiError``."""
    reseal, sealing_module, sandbox = (
        load_for("reseal", f"counterfoil.{each}")
        for each in ("cli.reseal", "sealing", "worker_processes.sandbox")
    )
    if sys.platform == "linux":
        sandbox.hide_memory()
    try:
        sealing = await reseal.sealing_of_namespace(kube, sealing_module.Sealing(args.sealing_keys))
    except sealing_module.SealingKeysInvalid as invalid:
        raise CommandError(ExitStatus.MISUSED, str(invalid)) from None
    try:
        if args.digest is None:
            plan = await reseal.plan_reseal(kube, sealing, WallClock())
            shown = {
                "digest": plan.digest,
                "keys": plan.outdated,
                "origins": plan.origins,
                "failed": plan.failures,
            }
            return _write(args, out, shown, plan.lines(), is_complete=not plan.failures)
        report = await reseal.reseal(kube, sealing, WallClock(), args.digest)
    except (reseal.NewestKeyRefused, reseal.NotAsShown) as refused:
        raise CommandError(ExitStatus.NOT_ALL, str(refused)) from None
    namespaces = await reseal.namespaces_of_release(kube, sealing)
    counts = {outcome.name.lower(): report.counts[outcome] for outcome in reseal.ResealOutcome}
    answer = {**counts, "otherNamespaces": namespaces.others, "unknownNamespaces": namespaces.unknown}
    return _write(args, out, answer, report.lines(namespaces), is_complete=report.is_complete)


def _write(
    args: argparse.Namespace,
    out: TextIO,
    answer: Mapping[str, Any],
    lines: Sequence[str],
    *,
    is_complete: bool,
) -> ExitStatus:
    out.write(format_result(args.output, answer, "".join(f"{each}\n" for each in lines)))
    return ExitStatus.DONE if is_complete else ExitStatus.NOT_ALL
