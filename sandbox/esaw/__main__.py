"""`python -m sandbox.esaw --port 8090`: the stand-in as a separate process, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import contextlib
import signal

import uvloop

from sandbox.esaw import Behaviour, StandIn


async def _run(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stopped.set)
    behaviour = Behaviour(
        callback_time_scale=arguments.callback_time_scale,
        final_during_callback=arguments.final_during_callback,
    )
    async with StandIn(host=arguments.host, port=arguments.port, behaviour=behaviour) as esaw:
        print(f"eSAW stand-in on {esaw.url}, control surface on {esaw.url}/_control/", flush=True)
        await stopped.wait()


def main() -> None:
    """Read the flags and serve."""
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
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
