"""`python -m sandbox.esaw --port 8090`: the stand-in as a separate process, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import uvloop

from sandbox.esaw import Behaviour, EsawProfile, InvalidProfile, StandIn, read_profile


async def _run(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stopped.set)
    behaviour = Behaviour(
        callback_time_scale=arguments.callback_time_scale,
        final_during_callback=arguments.final_during_callback,
    )
    async with StandIn(
        host=arguments.host, port=arguments.port, behaviour=behaviour, profile=arguments.profile
    ) as esaw:
        print(f"eSAW stand-in on {esaw.url}, control surface on {esaw.url}/_control/", flush=True)
        await stopped.wait()


def _profile(file: str) -> EsawProfile:
    try:
        return read_profile(Path(file))
    except InvalidProfile as invalid:
        raise argparse.ArgumentTypeError(str(invalid)) from invalid


def main() -> None:
    """Read the flags and serve. The exit status is 2 for an invalid flag or profile."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.esaw", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8090, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--callback-time-scale",
        type=float,
        default=0.001,
        help=(
            "what a minute between two attempts of a callback shrinks to; 1 is eSAW's own pace (default: "
            "%(default)s)"
        ),
    )
    parser.add_argument(
        "--final-during-callback",
        action="store_true",
        help="the envelope is in its final state already while CallbackUrl is being called",
    )
    parser.add_argument(
        "--profile",
        type=_profile,
        metavar="FILE",
        help="the output of `kubectl counterfoil check ORG -o json`; the stand-in behaves as that eSAW did",
    )
    arguments = parser.parse_args()
    for warning in arguments.profile.warnings if arguments.profile else ():
        print(f"{parser.prog}: warning: {warning}", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_run(arguments))


if __name__ == "__main__":
    main()
