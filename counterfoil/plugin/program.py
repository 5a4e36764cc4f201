"""
The program: arguments in, exit status out; what stops a command is said in one line on stderr, never as a stack trace.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import NamedTuple, NoReturn, TextIO

from counterfoil import __version__, logs, render, verify
from counterfoil.cluster import ApiProblem, Forbidden, NotFound, Refused, Unavailable, Unconfigured
from counterfoil.logs import redacted
from counterfoil.plugin import access, completion, consent, diagnose, reseal, retry, skip, sweep, url, why
from counterfoil.plugin.outcome import Ending, Stopped
from counterfoil.resources import ResourceInvalid
from counterfoil.settings import LogFormat, LogLevel

COMMANDS: MappingProxyType[str, ModuleType] = MappingProxyType(
    {
        "url": url,
        "why": why,
        "retry": retry,
        "skip": skip,
        "consent": consent,
        "sweep": sweep,
        "reseal": reseal,
        "diagnose": diagnose,
    }
)
"""Those that ask the API server, each a module with ``SUMMARY``, ``DETAILS``, ``arguments`` and ``run``."""

PROGRAM = "kubectl counterfoil"


class Own(NamedTuple):
    """A program of its own, with its own arguments and exit statuses."""

    summary: str
    parser: Callable[[str], argparse.ArgumentParser]
    run: Callable[[Sequence[str], TextIO], int]


PROGRAMS: MappingProxyType[str, Own] = MappingProxyType(
    {
        "verify": Own(
            "check an archived envelope; needs no cluster",
            verify.parser,
            lambda argv, out: verify.main(argv, os.environ, out, program=f"{PROGRAM} verify"),
        ),
        "render": Own(
            "try path and tags of an Archive on paper",
            render.parser,
            lambda argv, out: render.main(
                argv, _with_namespace(os.environ), out, program=f"{PROGRAM} render"
            ),
        ),
    }
)
"""Those that ``python -m`` runs as well."""


class _Parser(argparse.ArgumentParser):
    """Argparse, with one line for an error instead of its whole usage."""

    def error(self, message: str) -> NoReturn:
        raise Stopped(Ending.MISUSED, f"{message}; `{self.prog} --help` explains")


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the whole parser, and that of each command."""
    parser = _Parser(
        prog=PROGRAM,
        description="Asks Counterfoil, and asks something of it, with your own rights.",
        epilog=f"Exit status: {', '.join(f'{ending.value} {ending.name.lower()}' for ending in Ending)}.".replace(
            "_", " "
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"counterfoil {__version__}")
    access.arguments(parser)
    _output(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    each: dict[str, argparse.ArgumentParser] = {}
    for name, module in {**COMMANDS, "completion": completion}.items():
        each[name] = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=f"{_sentence(module.SUMMARY)} {module.DETAILS}",
            allow_abbrev=False,
        )
        module.arguments(each[name])
        access.arguments(each[name])
        _output(each[name])
    for name, own in PROGRAMS.items():
        commands.add_parser(name, help=own.summary, add_help=False)
        each[name] = own.parser(f"{PROGRAM} {name}")
    return parser, each


def main() -> int:
    """Run as ``kubectl-counterfoil``; return the exit status."""
    # What libraries warn of is said again by the error that follows.
    logs.configure(LogLevel.ERROR, LogFormat.TEXT)
    return run(sys.argv[1:], sys.stdout, sys.stderr)


def complete() -> int:
    """Run as ``kubectl_complete-counterfoil``; return the exit status."""
    parser, each = parsers()
    completion.answer(sys.argv[1:], parser, each, sys.stdout)
    return 0


def run(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Carry a command out; return the exit status."""
    if argv and argv[0] in PROGRAMS:
        return PROGRAMS[argv[0]].run(argv[1:], out)
    try:
        chosen = _parsed(argv)
        if chosen.command == "completion":
            return completion.script(chosen, out)
        chosen.output = getattr(chosen, "output", "text")
        return asyncio.run(_run(chosen, out))
    except Stopped as stopped:
        ending, words = stopped.ending, str(stopped)
    except Unconfigured as problem:
        ending, words = Ending.NO_ANSWER, str(problem)
    except ApiProblem as problem:
        ending, words = _told(problem)
    except ResourceInvalid as invalid:
        ending, words = Ending.NOT_ALL, f"{invalid}. Is the plugin older than Counterfoil?"
    except KeyboardInterrupt:
        return 130
    err.write(f"{PROGRAM}: {redacted(words)}\n")
    return ending


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments of a command that asks the API server. Raises ``Stopped``."""
    parser, each = parsers()
    chosen, rest = parser.parse_known_args(argv)
    if chosen.command in PROGRAMS:
        raise Stopped(Ending.MISUSED, f"{chosen.command} has flags of its own; put the flags behind it")
    if rest:
        each[chosen.command].error(f"unrecognized arguments: {' '.join(rest)}")
    return chosen


async def _run(chosen: argparse.Namespace, out: TextIO) -> Ending:
    async with access.opened(chosen) as cluster:
        ending: Ending = await COMMANDS[chosen.command].run(chosen, cluster, out)
        return ending


def _with_namespace(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Let the namespace of the current context count where none is set, as it does for the other commands."""
    known = access.namespace_of()
    return environ if known is None else {"COUNTERFOIL_NAMESPACE": known, **environ}


def _told(problem: ApiProblem) -> tuple[Ending, str]:
    match problem:
        case NotFound():
            return Ending.NOT_FOUND, f"{problem}. In another namespace? Say which with -n."
        case Forbidden() if problem.status == 401:
            return Ending.NOT_ALLOWED, f"the API server does not know you: {problem}. Sign in again."
        case Forbidden():
            return Ending.NOT_ALLOWED, f"you have no right to do that: {problem}"
        case Unavailable():
            return Ending.NO_ANSWER, f"{problem}. Try again later."
        case Refused():
            return Ending.MISUSED, str(problem)
        case _:
            return Ending.NOT_ALL, str(problem)


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json"),
        default=argparse.SUPPRESS,
        help="how to print. Default: text",
    )


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


if __name__ == "__main__":
    sys.exit(main())
