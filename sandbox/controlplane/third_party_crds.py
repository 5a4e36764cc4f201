"""
Kinds of others: CustomResourceDefinitions of the Prometheus operator and of the Gateway API, for who makes
such objects.

They come out of the Go modules that publish them, pinned and checked like the programs; nothing of these is
built.
"""

import json
import os
from pathlib import Path

from sandbox.cache import cache_folder
from sandbox.controlplane.binaries import (
    BUILD_ENVIRONMENT,
    NOT_INHERITED,
    SOURCES,
    BuildError,
    Report,
    say,
)
from sandbox.controlplane.processes import run
from sandbox.controlplane.toolchain import find_go, needed_by

FOLDER = SOURCES / "kinds"
PROMETHEUS = "example/prometheus-operator-crd/monitoring.coreos.com_{}.yaml"
GATEWAY = "config/crd/standard/gateway.networking.k8s.io_{}.yaml"
DEFINITIONS = {
    "github.com/prometheus-operator/prometheus-operator": [
        PROMETHEUS.format(plural) for plural in ("podmonitors", "servicemonitors", "prometheusrules")
    ],
    "sigs.k8s.io/gateway-api": [GATEWAY.format("httproutes")],
}


async def third_party_crds(*, report: Report = say) -> list[Path]:
    """
    Return the files, which are downloaded unless Go has them already.

    Raises BuildError when they can't be had, NoGoError when there is no Go to ask.
    """
    go = await find_go(needed_by((FOLDER / "go.mod").read_text()), cache_folder(), report)
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    asked = await run(
        [go.command, "mod", "download", "-json", *DEFINITIONS],
        environment={**inherited, **BUILD_ENVIRONMENT, "GOFLAGS": "-mod=readonly", **go.environment},
        cwd=FOLDER,
    )
    if asked.code != 0:
        raise BuildError(f"`go mod download` ended with {asked.code}:\n{asked.err or asked.out}")
    return [
        Path(module["Dir"]) / file for module in _documents(asked.out) for file in DEFINITIONS[module["Path"]]
    ]


def _documents(text: str) -> list[dict[str, str]]:
    """Return the JSON objects that stand one after the other."""
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        found.append(document)
        rest = rest[end:].strip()
    return found
