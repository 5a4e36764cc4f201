"""
Documents about a release's files: checksums, provenance (SLSA, in-toto) and krew's manifest; and the commands
that sign.

All are pure functions of what they describe.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from release.image.build import DIGEST

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://counterfoil.dev/make-release/v1"
CHECKSUMS = "SHA256SUMS"
PLATFORMS = (("linux", "amd64"), ("linux", "arm64"), ("darwin", "amd64"), ("darwin", "arm64"))
KEYLESS = ("SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL")
"""Variables by which cosign finds an identity without asking a person."""


def sha256(content: bytes) -> str:
    """Return the hash as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def checksums(hashes: Mapping[str, str]) -> str:
    """Return the file that ``sha256sum --check`` reads; ``hashes`` are by file name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))


def provenance(
    hashes: Mapping[str, str],
    *,
    version: str,
    revision: str,
    repository: str | None,
    base: str,
    locks: Mapping[str, str],
    builder: str,
) -> dict[str, Any]:
    """
    Return how the files were made, as an in-toto statement with SLSA's predicate.

    It has no times, so that the same commit gives the same bytes. A base image without a digest is named and
    has none here.
    """
    found = DIGEST.search(base)
    image: dict[str, Any] = {"uri": f"docker://{base}"}
    if found is not None:
        image["digest"] = {"sha256": found[0].rpartition(":")[2]}
    source = {
        "uri": f"git+{repository}" if repository else "git+file:.",
        "digest": {"gitCommit": revision},
    }
    materials = [{"uri": name, "digest": {"sha256": digest}} for name, digest in sorted(locks.items())]
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(hashes.items())],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"version": version},
                "resolvedDependencies": [source, image, *materials],
            },
            "runDetails": {"builder": {"id": builder}},
        },
    }


def krew(version: str, repository: str, archive: str, digest: str) -> str:
    """Return the manifest by which krew installs the plugin from the release's page of a repository."""
    manifest = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "counterfoil"},
        "spec": {
            "version": f"v{version}",
            "homepage": repository,
            "shortDescription": "Ask and steer Counterfoil, which archives eSignAnyWhere envelopes",
            "description": (
                "Says what happened to an envelope and who must act, asks for a retry, prints callback URLs "
                "and consent links, and writes support bundles. It uses your own rights.\n"
            ),
            "caveats": "Needs Python 3.11 to 3.14 as python3 on PATH.\n",
            "platforms": [
                {
                    "selector": {"matchLabels": {"os": system, "arch": architecture}},
                    "uri": f"{repository}/releases/download/v{version}/{archive}",
                    "sha256": digest,
                    "bin": "kubectl-counterfoil",
                }
                for system, architecture in PLATFORMS
            ],
        },
    }
    return yaml.safe_dump(manifest, sort_keys=False, width=110)


def repository_of(environment: Mapping[str, str]) -> str | None:
    """Return the address of the repository: ``REPOSITORY``, or what GitHub Actions says; None if unknown."""
    named = environment.get("REPOSITORY")
    if named:
        return named.rstrip("/")
    if "GITHUB_REPOSITORY" in environment:
        return (
            f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{environment['GITHUB_REPOSITORY']}"
        )
    return None


def builder_of(environment: Mapping[str, str]) -> str:
    """Return who builds: the workflow on GitHub, or a person's machine."""
    workflow = environment.get("GITHUB_WORKFLOW_REF")
    return f"https://github.com/{workflow}" if workflow else "https://counterfoil.dev/make-release/local"


def signing(environment: Mapping[str, str], sums: Path, predicate: Path) -> Sequence[list[str]]:
    """
    Return the commands that sign the checksums and attest the provenance; none without a key or an identity.

    The checksums name every file, so one signature covers all. ``predicate`` is the provenance without its
    statement, which cosign makes itself.
    """
    key = environment.get("COSIGN_KEY")
    if not key and not any(environment.get(name) for name in KEYLESS):
        return ()
    identity = [f"--key={key}"] if key else []
    return (
        ["cosign", "sign-blob", "--yes", *identity, f"--bundle={sums}.sigstore.json", str(sums)],
        [
            *("cosign", "attest-blob", "--yes", *identity, f"--predicate={predicate}"),
            *("--type=slsaprovenance1", f"--bundle={sums}.provenance.sigstore.json", str(sums)),
        ],
    )


def to_json(document: Mapping[str, Any]) -> str:
    """Return a document as it is written into a file."""
    return json.dumps(document, indent=2) + "\n"
