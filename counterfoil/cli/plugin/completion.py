"""
Completion: what may follow on a command line, for kubectl and for shells.

kubectl asks an executable ``kubectl_complete-counterfoil`` on PATH and understands cobra's answer: one
candidate a line, then ``:`` and a directive. The scripts for bash, zsh, fish and PowerShell (7.3 or newer)
ask the same for ``kubectl-counterfoil`` itself.
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from counterfoil.cli.plugin import config_flags, suspension
from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.kube.errors import ApiError, NotConfigured
from counterfoil.kube.watch import Raw
from counterfoil.resources import EnvelopeEvent, Import, Organization, Resource, Sender

SUMMARY = "print a completion script for a shell"
DETAILS = (
    "For the separate command `kubectl-counterfoil`, as in `source <(kubectl-counterfoil completion bash)`. "
    "kubectl completes `kubectl counterfoil` automatically: it finds kubectl_complete-counterfoil on PATH."
)

DIRECTIVE_NO_FILE_COMP = 4
"""Cobra's ShellCompDirectiveNoFileComp: don't offer file names."""

DIRECTIVE_DEFAULT = 0
"""Cobra's ShellCompDirectiveDefault: offer file names where there is nothing else."""

KINDS: dict[str, type[Resource]] = {
    "url": Organization,
    "check": Organization,
    "route": Organization,
    "sweep": Organization,
    "consent": Sender,
    "why": EnvelopeEvent,
    "retry": EnvelopeEvent,
    "skip": EnvelopeEvent,
    "copy": EnvelopeEvent,
}
"""Kind of the objects that a command's arguments name."""

MAX_CANDIDATES = 200
TIMEOUT_SECONDS = 3.0

SCRIPTS = {
    "bash": """\
_kubectl_counterfoil() {
    local IFS=$'\\n'
    COMPREPLY=($(kubectl_complete-counterfoil "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | grep -v '^:'))
}
complete -o default -F _kubectl_counterfoil kubectl-counterfoil
""",
    "zsh": """\
#compdef kubectl-counterfoil
_kubectl_counterfoil() {
    local -a found
    found=(${(f)"$(kubectl_complete-counterfoil "${(@)words[2,$CURRENT]}" 2>/dev/null | grep -v '^:')"})
    compadd -a found
}
compdef _kubectl_counterfoil kubectl-counterfoil
""",
    "fish": """\
function __kubectl_counterfoil
    set -l typed (commandline -opc) (commandline -ct)
    kubectl_complete-counterfoil $typed[2..-1] 2>/dev/null | string match -v ':*'
end
complete -c kubectl-counterfoil -f -a '(__kubectl_counterfoil)'
""",
    "powershell": """\
Register-ArgumentCompleter -Native -CommandName kubectl-counterfoil -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    # The words as the other shells pass them.

    $typed = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { "$_" })
    if ($wordToComplete -eq '') { $typed += '' }

    # Without the directive.

    $found = kubectl_complete-counterfoil @typed 2>$null
    $found | Where-Object { $_ -and -not $_.StartsWith(':') } | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
    }
}
""",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("shell", choices=sorted(SCRIPTS), help="which shell")


def write_script(args: argparse.Namespace, out: TextIO) -> ExitStatus:
    """Print the script of a shell."""
    out.write(SCRIPTS[args.shell])
    return ExitStatus.DONE


def write_candidates(
    words: Sequence[str],
    commands: argparse.ArgumentParser,
    subparsers: dict[str, argparse.ArgumentParser],
    out: TextIO,
) -> None:
    """Write the candidates for the last word, and the directive."""
    typed, before = (words[-1], words[:-1]) if words else ("", ())
    command = next((word for word in before if word in subparsers), None)
    if command is None:
        offered, directive = [*subparsers, *_flags(commands)], DIRECTIVE_NO_FILE_COMP
    elif typed.startswith("-"):
        offered, directive = _flags(subparsers[command]), DIRECTIVE_NO_FILE_COMP
    elif command == "completion":
        offered, directive = sorted(SCRIPTS), DIRECTIVE_NO_FILE_COMP
    elif command in ("suspend", "resume"):
        offered, directive = _suspendable(typed, before), DIRECTIVE_NO_FILE_COMP
    elif command == "import":
        offered = ["report", "status", *_names(Organization, before), *_names(Import, before)]
        directive = DIRECTIVE_NO_FILE_COMP
    elif (kind := KINDS.get(command)) is not None:
        offered, directive = _names(kind, before), DIRECTIVE_NO_FILE_COMP
    else:
        offered, directive = [], DIRECTIVE_DEFAULT
    chosen = [word for word in offered if word.startswith(typed) and (typed or not word.startswith("-"))]
    out.write("".join(f"{word}\n" for word in chosen) + f":{directive}\n")


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return sorted(
        flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")
    )


def _suspendable(typed: str, before: Sequence[str]) -> list[str]:
    """Return the kinds that can be suspended; after one of them, names of its objects."""
    words = [each for each in before if not each.startswith("-")]
    kinds = {each.KIND.lower(): each for each in suspension.KINDS}
    kind = next((kinds[each] for each in reversed(words) if each in kinds), None)
    return sorted(kinds) if kind is None else _names(kind, before)


def _names(kind: type[Resource], before: Sequence[str]) -> list[str]:
    """Return names that exist; none when the API server does not answer in time, or refuses."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    config_flags.add_arguments(parser)
    connection, _ = parser.parse_known_args(list(before))
    with suppress(ApiError, NotConfigured, TimeoutError):
        return asyncio.run(_listed(kind, connection))
    return []


async def _listed(kind: type[Resource], connection: argparse.Namespace) -> list[str]:
    async with asyncio.timeout(TIMEOUT_SECONDS), config_flags.connect_to_api_server(connection) as kube:
        names, _ = await kube.first(kind, _names_of, limit=MAX_CANDIDATES)
    return list(names)


def _names_of(page: Sequence[Raw]) -> list[str]:
    return [raw["metadata"]["name"] for raw in page]
