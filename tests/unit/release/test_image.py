"""
The image is built from locked hashes for somebody without rights, and holds nothing that a cluster has no use
for.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from release.image import build, slim
from release.image.build import (
    BaseMutable,
    BuildToolMissing,
    ImageSpec,
    choose_base,
    choose_tool,
    commands,
    multi_architecture_commands,
)
from webhook.__main__ import PROCESSES

CONTAINERFILE = (build.ROOT / "release" / "Containerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [line for line in CONTAINERFILE.splitlines() if re.match("[A-Z]+ ", line)]
ORDER = ImageSpec(image="counterfoil:1", base="a@b", version="1", revision="abc", epoch="1700000000")
PINNED = f"registry.example.com/python:3.13-slim@sha256:{'0' * 64}"


def instructions(kind: str) -> list[str]:
    return [line.partition(" ")[2] for line in INSTRUCTIONS if line.startswith(f"{kind} ")]


def test_the_base_is_an_argument_without_a_default() -> None:
    assert instructions("ARG")[0] == "BASE"
    named = [[word for word in each.split() if not word.startswith("--")] for each in instructions("FROM")]
    assert {each[0] for each in named} - {each[2] for each in named} == {"${BASE}"}


def test_the_image_has_no_opentelemetry_and_its_variant_for_traces_has() -> None:
    stages = re.split(r"(?m)^FROM ", CONTAINERFILE)[1:]
    (plain,) = (each for each in stages if " AS build-plain\n" in each)
    assert "traces.txt" not in plain
    assert stages[-1].split()[2] == build.PLAIN, "what is built without a target"
    assert {each.split()[2] for each in stages} >= set(build.LOCKS)
    runtime, traces = (
        set(re.findall(r"(?m)^[a-z0-9._-]+==\S+", build.lock_of(each)))
        for each in (build.PLAIN, build.TRACES)
    )
    assert runtime < traces
    assert [each for each in runtime if each.startswith("opentelemetry")] == []


def test_the_tag_of_the_variant_is_the_one_that_the_chart_asks_for() -> None:
    plain = build.image_spec({"BASE": PINNED})
    traces = build.image_spec({"BASE": PINNED, "TRACES": "1"})
    assert traces.image == f"{plain.image}-traces"
    assert "--target=traces" in commands("docker", traces, Path("image.tar"))[0]
    assert "--target=plain" in commands("docker", plain, Path("image.tar"))[0]


def test_one_line_names_the_base() -> None:
    lines = build.BASE_FILE.read_text(encoding="utf-8").splitlines()
    (line,) = (each for each in lines if not each.startswith("#"))
    assert re.fullmatch(r"[a-z.]+/[a-z/]+:3\.\d+-[a-z]+(@sha256:[0-9a-f]{64})?", line)


@pytest.mark.parametrize(
    "base", ["python:3.13-slim", "python", "python@sha256:abc", f"python@sha256:{'0' * 64}:latest"]
)
def test_a_base_without_a_digest_is_refused_with_the_command_that_finds_it(base: str) -> None:
    for environment, named in (({"BASE": base}, PINNED), ({}, f"# why\n{base}\n")):
        with pytest.raises(BaseMutable, match="imagetools inspect"):
            choose_base(environment, named)


def test_a_base_with_a_digest_is_taken_and_one_without_if_it_is_asked_for() -> None:
    assert choose_base({}, f"# why\n{PINNED}\n") == PINNED
    assert choose_base({"BASE": PINNED, "MUTABLE_BASE": ""}, "python\n") == PINNED
    assert choose_base({"MUTABLE_BASE": "1"}, "python\n") == "python"


def test_the_base_image_of_the_repository_has_a_digest() -> None:
    assert choose_base({}, build.BASE_FILE.read_text(encoding="utf-8")).startswith(
        "docker.io/library/python:"
    )


def test_nothing_is_built_from_a_tag(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE", "python:3.13-slim")
    monkeypatch.delenv("MUTABLE_BASE", raising=False)
    assert build.main() == 1
    assert "has no digest" in capsys.readouterr().err


def test_it_runs_as_somebody_without_rights_named_by_number() -> None:
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9][0-9]{3,}:[1-9][0-9]{3,}", user)


def test_it_runs_as_the_user_that_the_chart_names() -> None:
    values = yaml.safe_load((build.ROOT / "charts" / "counterfoil" / "values.yaml").read_text("utf-8"))
    (user,) = instructions("USER")
    context = values["podSecurityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_nothing_is_installed_that_is_not_locked() -> None:
    for command in (json.loads(each) for each in instructions("RUN")):
        if "install" in command:
            assert "--require-hashes" in command or "--no-index" in command, command


def test_no_shell_is_used_neither_to_build_nor_to_run() -> None:
    for kind in ("RUN", "ENTRYPOINT"):
        assert all(each.startswith("[") for each in instructions(kind)), kind
    assert not re.search(r"curl|wget|apt-get|apk ", CONTAINERFILE)


def test_neither_sandbox_nor_tests_nor_bench_come_along() -> None:
    copied = {each.split()[0] for each in instructions("COPY") if not each.startswith("--from")}
    assert copied == {
        "release/locks/build.txt",
        "release/locks/runtime.txt",
        "release/locks/traces.txt",
        "pyproject.toml",
        "counterfoil",
        "webhook",
        "controller",
        "release/image/install.py",
        "release/image/slim.py",
    }


def test_what_is_not_copied_is_not_even_sent_to_the_builder() -> None:
    ignored = (build.ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert {each[1:] for each in ignored if each.startswith("!")} == {
        "release/Containerfile",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "NOTICE",
        "release/image",
        "release/locks",
        "counterfoil",
        "webhook",
        "controller",
    }


def test_every_public_port_is_said_to_be_there() -> None:
    (ports,) = instructions("EXPOSE")
    assert ports.split() == ["8080", "8081", "8082", "9090"]
    assert len(PROCESSES) == 3


def test_the_chart_asks_for_this_version() -> None:
    chart = yaml.safe_load((build.ROOT / "charts" / "counterfoil" / "Chart.yaml").read_text("utf-8"))
    project = tomllib.loads((build.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert chart["appVersion"] == project["version"]


@pytest.mark.parametrize("lock", ["runtime.txt", "traces.txt", "build.txt", "audit.txt", "mutation.txt"])
def test_every_line_of_a_lock_that_goes_into_the_image_has_hashes(lock: str) -> None:
    text = (build.ROOT / "release" / "locks" / lock).read_text(encoding="utf-8")
    packages = re.split(r"(?m)^(?=[a-z0-9])", text)[1:]
    assert packages
    assert not [each.split()[0] for each in packages if "--hash=sha256:" not in each]


def test_an_audit_covers_every_lock_and_fails_for_what_could_not_be_audited() -> None:
    recipe = (build.ROOT / "Makefile").read_text("utf-8").partition("\naudit:")[2].partition("\n\n")[0]
    (locks,) = re.findall(r"for lock in ([a-z ]+);", recipe)
    assert {f"{each}.txt" for each in (*locks.split(), "audit")} == {
        path.name for path in (build.ROOT / "release" / "locks").iterdir()
    }
    # Without it, a registry without advisories gives "No known vulnerabilities found" and success.
    assert "pip-audit --strict " in recipe


def test_the_first_program_that_works_builds() -> None:
    assert choose_tool(None, lambda tool: tool != "buildah") == "podman"
    assert choose_tool("docker", lambda _: True) == "docker"


def test_without_any_it_says_what_to_install() -> None:
    with pytest.raises(BuildToolMissing, match=r"buildah, podman, docker.*Install buildah"):
        choose_tool(None, lambda _: False)


@pytest.mark.parametrize("tool", build.TOOLS)
def test_each_program_gets_base_version_and_date(tool: str) -> None:
    build, save = commands(tool, ORDER._replace(base="mine"), Path("dist/image.tar"))
    assert build[0] == save[0] == tool
    for argument in ("BASE=mine", "VERSION=1", "REVISION=abc", "SOURCE_DATE_EPOCH=1700000000"):
        assert f"--build-arg={argument}" in build
    assert any("dist/image.tar" in each for each in save)


def test_the_image_of_each_architecture_is_built_after_the_one_before_it() -> None:
    *builds, push = multi_architecture_commands(ORDER, ("amd64", "arm64"), Path("layout"))
    platforms = [[each for each in build if each.startswith("--platform=")] for build in builds]
    assert platforms == [["--platform=linux/amd64"], ["--platform=linux/arm64"]]
    (manifest,) = {each for build in builds for each in build if each.startswith("--manifest=")}
    assert manifest.partition("=")[2] in push


def test_what_the_processes_import_of_the_kubernetes_client_stays_in_the_image() -> None:
    folders = tuple(f"{each.replace('/', '.')}." for each in slim.UNUSED)
    printing = f"import sys\nprint(*(each for each in sys.modules if each.startswith({folders!r})))\n"
    done = subprocess.run(
        [sys.executable, "-c", slim.IMPORT_CHECK + printing], capture_output=True, text=True, check=True
    )
    needed = {f"{each.rpartition('.')[2]}.py" for each in done.stdout.split()}
    assert "v1_lease.py" in needed
    assert needed <= slim.LEASE_MODULES
