"""
The program: arguments in, exit status out; what stops a command is said in one line on stderr, never as a
stack trace.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType, ModuleType
from typing import NamedTuple, NoReturn, TextIO

from counterfoil import __version__, logs
from counterfoil.cli.plugin import (
    check,
    completion,
    config_flags,
    consent,
    reseal,
    route,
    url,
    why,
)
from counterfoil.cli.plugin.exit_status import (
    EXIT_STATUS_TEXTS,
    CommandError,
    ExitStatus,
    load_for,
    printable,
)
from counterfoil.cli.plugin.installation import diagnose, preflight, setup, status
from counterfoil.cli.plugin.missing_right import is_undefined, undefined_text, unreadable_text, way_to_right
from counterfoil.cli.plugin.search import imports, sweep
from counterfoil.cli.plugin.send_request import COPY, RETRY, SKIP, RequestCommand
from counterfoil.cli.plugin.suspension import RESUME, SUSPEND, SuspensionCommand
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Forbidden, NotConfigured, NotFound, Rejected, Unavailable
from counterfoil.logs import redact
from counterfoil.process_exit import exit_process
from counterfoil.resources import ResourceInvalid
from counterfoil.settings import LogFormat, LogLevel

COMMANDS: MappingProxyType[str, ModuleType | RequestCommand | SuspensionCommand] = MappingProxyType(
    {
        "status": status,
        "preflight": preflight,
        "setup": setup,
        "url": url,
        "check": check,
        "why": why,
        "route": route,
        "retry": RETRY,
        "skip": SKIP,
        "copy": COPY,
        "suspend": SUSPEND,
        "resume": RESUME,
        "consent": consent,
        "sweep": sweep,
        "import": imports,
        "reseal": reseal,
        "diagnose": diagnose,
    }
)
"""Those that ask the API server, each with ``SUMMARY``, ``DETAILS``, ``add_arguments`` and ``run``."""

PROGRAM = "kubectl counterfoil"


class StandaloneProgram(NamedTuple):
    """A command that ``python -m`` runs as well, with ``parser``, ``main`` and its own exit statuses."""

    module: str
    summary: str


STANDALONE_PROGRAMS: MappingProxyType[str, StandaloneProgram] = MappingProxyType(
    {
        "verify": StandaloneProgram("counterfoil.cli.verify", "check an archived envelope; needs no cluster"),
        "render": StandaloneProgram(
            "counterfoil.cli.render", "try the path and tags of an Archive without storing anything"
        ),
    }
)


class _CommandParser(argparse.ArgumentParser):
    """Argparse, with one line for an error instead of its whole usage."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(ExitStatus.MISUSED, f"{message}; `{self.prog} --help` explains")


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the whole parser, and that of each command whose libraries are there."""
    parser, subparsers = _api_parsers()
    for name, program in STANDALONE_PROGRAMS.items():
        with suppress(CommandError):
            subparsers[name] = load_for(name, program.module).parser(f"{PROGRAM} {name}")
    return parser, subparsers


def _api_parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the whole parser, and that of each command that asks the API server."""
    statuses = ", ".join(f"{each.value} {text}" for each, text in EXIT_STATUS_TEXTS.items())
    parser = _CommandParser(
        prog=PROGRAM,
        description="Show what Counterfoil does, and send it requests, with your own rights.",
        epilog=f"Exit status: {statuses}. verify and render have their own.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"counterfoil {__version__}")
    config_flags.add_arguments(parser)
    _add_output_flag(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    subparsers: dict[str, argparse.ArgumentParser] = {}
    for name, module in {**COMMANDS, "completion": completion}.items():
        subparsers[name] = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=f"{_sentence(module.SUMMARY)} {module.DETAILS}",
            allow_abbrev=False,
        )
        module.add_arguments(subparsers[name])
        config_flags.add_arguments(subparsers[name])
        _add_output_flag(subparsers[name], getattr(module, "OUTPUTS", ()))
    for name, own in STANDALONE_PROGRAMS.items():
        commands.add_parser(name, help=own.summary, add_help=False)
    return parser, subparsers


def main() -> NoReturn:
    """Run as ``kubectl-counterfoil``, and end the process."""
    # What libraries warn of is said again by the error that follows.
    logs.configure(LogLevel.ERROR, LogFormat.TEXT)
    exit_process(run(sys.argv[1:], sys.stdout, sys.stderr))


def complete() -> int:
    """Run as ``kubectl_complete-counterfoil``; return the exit status."""
    parser, subparsers = parsers()
    completion.write_candidates(sys.argv[1:], parser, subparsers, sys.stdout)
    return 0


def run(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Carry a command out; return the exit status."""
    try:
        if argv and argv[0] in STANDALONE_PROGRAMS:
            return _run_standalone(argv[0], argv[1:], out)
        args = _parse_arguments(argv)
        if args.command == "completion":
            return completion.write_script(args, out)
        args.output = getattr(args, "output", "text")
        return asyncio.run(carry_out(args, out))
    except (CommandError, NotConfigured, ApiError, ResourceInvalid) as problem:
        exit_status, words = describe(problem)
    except KeyboardInterrupt:
        return 130
    # They may quote a status, which others write.
    lines = "\n".join(printable(line) for line in redact(words).split("\n"))
    err.write(f"{PROGRAM}: {lines}\n")
    return exit_status


def describe(problem: CommandError | NotConfigured | ApiError | ResourceInvalid) -> tuple[ExitStatus, str]:
    """Return the exit status and the line for what stopped a command."""
    match problem:
        case CommandError():
            return problem.exit_status, str(problem)
        case NotConfigured():
            return ExitStatus.NO_ANSWER, str(problem)
        case ApiError():
            return _describe_api_error(problem)
    return ExitStatus.NOT_ALL, f"{unreadable_text(problem)}."


def _run_standalone(name: str, argv: Sequence[str], out: TextIO) -> int:
    """Run one of ``STANDALONE_PROGRAMS``. Raises ``CommandError``."""
    environ = _with_namespace(os.environ) if name == "render" else os.environ
    main_of_program: Callable[..., int] = load_for(name, STANDALONE_PROGRAMS[name].module).main
    return main_of_program(argv, environ, out, program=f"{PROGRAM} {name}")


def _parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments of a command that asks the API server. Raises ``CommandError``."""
    parser, subparsers = _api_parsers()
    args, rest = parser.parse_known_args(argv)
    if args.command in STANDALONE_PROGRAMS:
        raise CommandError(ExitStatus.MISUSED, f"{args.command} has its own flags; put the flags after it")
    if rest:
        subparsers[args.command].error(f"unrecognized arguments: {' '.join(rest)}")
    return args


async def carry_out(args: argparse.Namespace, out: TextIO) -> ExitStatus:
    """Run a command that asks the API server. Raises what ``describe`` takes."""
    async with config_flags.connect_to_api_server(args) as kube:
        try:
            exit_status: ExitStatus = await COMMANDS[args.command].run(args, kube, out)
        except Unavailable as problem:
            if is_undefined(problem):
                await _name_missing_kinds(kube, problem)
            raise
        return exit_status


async def _name_missing_kinds(kube: KubeClient, problem: Unavailable) -> None:
    """Raise ``CommandError`` if the API server has some kinds of Counterfoil; do nothing if it has none, or
    does not say which."""
    try:
        missing = await preflight.missing_kinds(kube)
    except ApiError:
        return
    if not missing:
        raise CommandError(ExitStatus.NO_ANSWER, f"{problem}. Try again later.")
    if len(missing) < len(preflight.ALL_KINDS):
        raise CommandError(ExitStatus.NOT_FOUND, f"{undefined_text(missing)}.")


def _with_namespace(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Let the namespace of the current context count where none is set, as it does for the other commands."""
    known = config_flags.context_namespace()
    return environ if known is None else {"COUNTERFOIL_NAMESPACE": known, **environ}


def _describe_api_error(problem: ApiError) -> tuple[ExitStatus, str]:
    match problem:
        case NotFound():
            return ExitStatus.NOT_FOUND, f"{problem}. In another namespace? Say which with -n."
        case Forbidden() if problem.status == 401:
            return ExitStatus.NOT_ALLOWED, f"the API server does not know you: {problem}. Sign in again."
        case Forbidden():
            return (
                ExitStatus.NOT_ALLOWED,
                f"you have no right to do that: {problem}{way_to_right(str(problem))}",
            )
        case Unavailable() if problem.status == 404:
            # No Status object: the API server has no such API.
            return ExitStatus.NOT_FOUND, (
                "this cluster has no resources of counterfoil.dev, so Counterfoil is not installed there. Is "
                "it the right context? `kubectl counterfoil preflight` says what an installation needs."
            )
        case Unavailable() if problem.status == 0:
            return ExitStatus.NO_ANSWER, (
                f"{problem}. `kubectl config view --minify` shows its address: is it right, and does your "
                "network lead there? If so, try again later."
            )
        case Unavailable():
            return ExitStatus.NO_ANSWER, f"{problem}. Try again later."
        case Rejected():
            return ExitStatus.MISUSED, str(problem)
        case _:
            return ExitStatus.NOT_ALL, str(problem)


def _add_output_flag(parser: argparse.ArgumentParser, others: Sequence[str] = ()) -> None:
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json", "yaml", *others),
        default=argparse.SUPPRESS,
        help="output format. Default: text",
    )


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


if __name__ == "__main__":
    sys.exit(main())
