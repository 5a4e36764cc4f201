"""
The way to the API server that kubectl would take: the same kubeconfig, context and namespace, and the user's
own rights.
"""

import argparse
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.durations import Duration
from counterfoil.kube.client import REQUEST_TIMEOUT_SECONDS, KubeClient, connect
from counterfoil.kube.config import is_in_cluster, named_entries

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A name of a namespace: one label of DNS."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add kubectl's own flags for cluster and namespace. They may stand before a command and after it."""
    flags = parser.add_argument_group("cluster and namespace")
    unset = argparse.SUPPRESS
    flags.add_argument(
        "-n", "--namespace", default=unset, metavar="NAME", help="namespace. Default: the context's"
    )
    flags.add_argument(
        "--context", default=unset, metavar="NAME", help="context of the kubeconfig. Default: the current one"
    )
    flags.add_argument(
        "--kubeconfig",
        type=Path,
        default=unset,
        metavar="FILE",
        help="kubeconfig file. Default: $KUBECONFIG, else ~/.kube/config; in a pod, its service account",
    )
    flags.add_argument(
        "--as",
        dest="impersonated",
        default=unset,
        metavar="USER",
        help="user in whose name the API server is asked; you need the right to impersonate. Default: you",
    )
    flags.add_argument(
        "--request-timeout",
        type=_seconds,
        default=unset,
        metavar="TIME",
        help="longest time for one request, such as 5s or 1m. Default: 20s",
    )


@asynccontextmanager
async def connect_to_api_server(args: argparse.Namespace) -> AsyncIterator[KubeClient]:
    """Open the API server that the arguments name. Raises ``CommandError``, ``NotConfigured``."""
    kubeconfig = getattr(args, "kubeconfig", None)
    context = getattr(args, "context", None)
    known = named_entries(_kubeconfigs(kubeconfig), "contexts") if context is not None else {}
    if known and context not in known:
        raise CommandError(ExitStatus.MISUSED, f"no context {context!r}; there are: {', '.join(known)}")
    namespace = getattr(args, "namespace", None) or context_namespace(kubeconfig, context)
    if namespace is not None and not _NAMESPACE.fullmatch(str(namespace)):
        # Commands print it for the shell, and a kubeconfig can be of somebody else.
        raise CommandError(ExitStatus.MISUSED, f"{namespace!r} is no name of a namespace")
    async with connect(
        namespace=namespace,
        kubeconfig=kubeconfig,
        context=context,
        connections=8,
        impersonated=getattr(args, "impersonated", None),
        request_seconds=getattr(args, "request_timeout", REQUEST_TIMEOUT_SECONDS),
    ) as kube:
        yield kube


def _seconds(text: str) -> float:
    """Return a time as seconds; a number without a unit is seconds, as for kubectl."""
    try:
        span = Duration.parse(f"{text}s" if text.isdecimal() else text)
    except ValueError as invalid:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 5s or 1m") from invalid
    if not span:
        raise argparse.ArgumentTypeError("a request needs a time above 0s")
    return span.total_seconds()


def context_namespace(kubeconfig: Path | None = None, context: str | None = None) -> str | None:
    """
    Return the namespace of the context; None if the context names none or the file can't be read.

    ``connect`` reports a file that can't be read.
    """
    if kubeconfig is None and context is None and not os.environ.get("KUBECONFIG") and is_in_cluster():
        return None
    contents = _kubeconfigs(kubeconfig)
    # As kubectl merges several: the first file that says something wins.
    current = context or next((name for each in contents if (name := each.get("current-context"))), None)
    return named_entries(contents, "contexts").get(str(current), {}).get("namespace")


def _kubeconfigs(kubeconfig: Path | None) -> list[Mapping[str, Any]]:
    """Return the contents of the files that kubectl would read."""
    configured = os.environ.get("KUBECONFIG", "")
    places = (
        [kubeconfig] if kubeconfig is not None else [Path(each) for each in configured.split(":") if each]
    )
    return [_read_kubeconfig(each) for each in places or [Path("~/.kube/config").expanduser()]]


def _read_kubeconfig(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
