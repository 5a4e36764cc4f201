"""Checksums, provenance, krew's manifest and the commands that sign, as pure functions of a release."""

import subprocess
from pathlib import Path

import pytest
import yaml

from release import statements

HASHES = {"b.tgz": "2" * 64, "a.whl": "1" * 64}
PINNED = f"docker.io/library/python:3.13-slim@sha256:{'a' * 64}"


def provenance(base: str) -> dict[str, object]:
    return statements.provenance(
        HASHES,
        version="1.2.3",
        revision="f" * 40,
        repository="https://github.com/acme/counterfoil",
        base=base,
        locks={"release/locks/runtime.txt": "3" * 64},
        builder="https://counterfoil.dev/make-release/local",
    )


def test_sha256sum_accepts_the_checksums_and_refuses_a_changed_file(tmp_path: Path) -> None:
    (tmp_path / "a b").write_text("a")
    sums = statements.checksums({"a b": statements.sha256(b"a")})
    (tmp_path / statements.CHECKSUMS).write_text(sums)
    command = ["sha256sum", "--check", "--strict", statements.CHECKSUMS]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    (tmp_path / "a b").write_text("b")
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 1


def test_the_provenance_names_files_commit_base_and_locks() -> None:
    statement = provenance(PINNED)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [
        {"name": "a.whl", "digest": {"sha256": "1" * 64}},
        {"name": "b.tgz", "digest": {"sha256": "2" * 64}},
    ]
    predicate = statement["predicate"]
    assert isinstance(predicate, dict)
    assert predicate["buildDefinition"]["resolvedDependencies"] == [
        {"uri": "git+https://github.com/acme/counterfoil", "digest": {"gitCommit": "f" * 40}},
        {"uri": f"docker://{PINNED}", "digest": {"sha256": "a" * 64}},
        {"uri": "release/locks/runtime.txt", "digest": {"sha256": "3" * 64}},
    ]
    assert predicate["runDetails"]["builder"]["id"].endswith("/local")


def test_a_base_without_a_digest_gets_none_in_the_provenance() -> None:
    predicate = provenance("python:3.13-slim")["predicate"]
    assert isinstance(predicate, dict)
    assert predicate["buildDefinition"]["resolvedDependencies"][1] == {"uri": "docker://python:3.13-slim"}


def test_krew_gets_the_archive_of_the_release_for_each_platform() -> None:
    manifest = yaml.safe_load(statements.krew("1.2.3", "https://h/acme/c", "k-1.2.3.tar.gz", "0" * 64))
    platforms = manifest["spec"]["platforms"]
    assert manifest["metadata"]["name"] == "counterfoil"
    assert manifest["spec"]["version"] == "v1.2.3"
    assert {each["uri"] for each in platforms} == {"https://h/acme/c/releases/download/v1.2.3/k-1.2.3.tar.gz"}
    assert {tuple(each["selector"]["matchLabels"].values()) for each in platforms} == set(
        statements.PLATFORMS
    )
    # krew refuses longer ones.
    assert len(manifest["spec"]["shortDescription"]) <= 80


@pytest.mark.parametrize(
    ("environment", "repository"),
    [
        ({}, None),
        ({"REPOSITORY": ""}, None),
        ({"REPOSITORY": "https://h/a/c/"}, "https://h/a/c"),
        ({"GITHUB_REPOSITORY": "a/c"}, "https://github.com/a/c"),
        ({"GITHUB_REPOSITORY": "a/c", "GITHUB_SERVER_URL": "https://g"}, "https://g/a/c"),
    ],
)
def test_the_repository_is_the_named_one_or_that_of_the_workflow(
    environment: dict[str, str], repository: str | None
) -> None:
    assert statements.repository_of(environment) == repository


def test_nothing_is_signed_without_a_key_or_an_identity() -> None:
    assert statements.signing({"COSIGN_KEY": ""}, Path("SHA256SUMS"), Path("p.json")) == ()


@pytest.mark.parametrize(
    ("environment", "keyed"),
    [({"COSIGN_KEY": "cosign.key"}, True), ({"SIGSTORE_ID_TOKEN": "t"}, False)],
)
def test_a_key_or_an_identity_signs_the_checksums_and_attests_the_provenance(
    environment: dict[str, str], keyed: bool
) -> None:
    sign, attest = statements.signing(environment, Path("SHA256SUMS"), Path("p.json"))
    assert sign[:3] == ["cosign", "sign-blob", "--yes"]
    assert attest[:3] == ["cosign", "attest-blob", "--yes"]
    assert {"--predicate=p.json", "--type=slsaprovenance1"} <= set(attest)
    for command in (sign, attest):
        assert command[-1] == "SHA256SUMS"
        assert ("--key=cosign.key" in command) == keyed
    assert not [each for each in (*sign, *attest) if each.endswith("=t")], "no token in a command line"
