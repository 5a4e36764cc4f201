"""Programs are built once, whole or not at all, and again when what they are made of changes."""

import asyncio
import dataclasses
import re
import shutil
from pathlib import Path

import pytest

from sandbox.controlplane.binaries import (
    MODULES,
    BuildError,
    Module,
    duration,
    ensure,
    module_of,
    output_name,
)
from sandbox.controlplane.toolchain import NoGoError, needed_by, version_in

A_GO = """#!/bin/sh
here=$(dirname "$0")
if [ "$1" = env ]; then echo go1.99.0; exit; fi
echo "$@" >> "$here/calls"
while [ "$1" != -o ]; do shift; done
folder=$2
shift 2
for package in "$@"; do name=${package%/v3}; echo program > "$folder${name##*/}"; done
"""
A_GO_THAT_FAILS = """#!/bin/sh
if [ "$1" = env ]; then echo go1.99.0; exit; fi
echo "main.go:7: undefined: x" >&2
exit 1
"""
A_GO_WITH_A_BAD_LINE = """#!/bin/sh
here=$(dirname "$0")
if [ "$1" = env ]; then echo go1.99.0; exit; fi
echo "$@" >> "$here/calls"
if [ "$(wc -l < "$here/calls")" -eq 1 ]; then echo "dial tcp: connection refused" >&2; exit 1; fi
while [ "$1" != -o ]; do shift; done
folder=$2
shift 2
for package in "$@"; do name=${package%/v3}; echo program > "$folder${name##*/}"; done
"""


class Machine:
    """A machine with an empty cache and its own Go."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = folder / "cache"
        self._programs = folder / "programs"
        self._programs.mkdir()
        self.said: list[str] = []
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.cache))
        monkeypatch.setenv("PATH", f"{self._programs}:/usr/bin:/bin")
        # Its publishers are the subject of test_downloads.py.
        monkeypatch.setenv("COUNTERFOIL_BUILD", "1")

    def has_go(self, script: str) -> None:
        program = self._programs / "go"
        program.write_text(script)
        program.chmod(0o755)

    def builds(self) -> int:
        return len((self._programs / "calls").read_text().splitlines())

    def left_behind(self) -> list[Path]:
        return [path for path in self.cache.rglob(".unfinished-*") if path.is_dir()]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def module(tmp_path: Path) -> Module:
    """A copy of a real module that a test may change."""
    real = module_of("etcd")
    folder = tmp_path / "module"
    shutil.copytree(real.folder, folder)
    return dataclasses.replace(real, folder=folder)


def test_another_go_sum_is_another_key(module: Module) -> None:
    before = module.key()
    with (module.folder / "go.sum").open("a") as go_sum:
        go_sum.write("example.org/other v1.0.0 h1:AAAA=\n")
    assert module.key() != before


def test_another_go_mod_is_another_key(module: Module) -> None:
    before = module.key()
    with (module.folder / "go.mod").open("a") as go_mod:
        go_mod.write("// changed\n")
    assert module.key() != before


def test_another_source_file_of_the_project_is_another_key(module: Module) -> None:
    before = module.key()
    (module.folder / "main.go").write_text("package main\n")
    assert module.key() != before


def test_other_linker_flags_are_another_key(module: Module) -> None:
    assert dataclasses.replace(module, linker_flags="").key() != module.key()


def test_the_same_files_elsewhere_have_the_same_key(module: Module) -> None:
    assert module.key() == module_of("etcd").key()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: ",".join(module.programs))
def test_the_version_that_a_program_gets_is_the_one_that_go_mod_pins(module: Module) -> None:
    assert f"v{module.version}" in module.go_mod.split()


async def test_many_callers_at_once_build_once(machine: Machine) -> None:
    machine.has_go(A_GO)
    answers = await asyncio.gather(*(ensure("etcd", report=machine.said.append) for _ in range(5)))

    assert machine.builds() == 1
    assert {binaries.path("etcd").read_text() for binaries in answers} == {"program\n"}


async def test_a_module_from_elsewhere_is_built_and_kept_in_the_same_way(
    machine: Machine, module: Module
) -> None:
    machine.has_go(A_GO)
    (module.folder / "main.go").write_text("package main\n")
    elsewhere = dataclasses.replace(module, programs={"peer": "example.org/peer"})
    built = await ensure("peer", report=machine.said.append, modules=[elsewhere])

    assert built.path("peer") == machine.cache / "counterfoil" / "bin" / elsewhere.key() / "peer"
    assert built.path("peer").exists()


async def test_what_is_there_is_not_built_again_and_needs_no_go(machine: Machine) -> None:
    machine.has_go(A_GO)
    first = await ensure("etcd", report=machine.said.append)
    machine.has_go(A_GO_THAT_FAILS)

    assert dict(await ensure("etcd", report=machine.said.append)) == dict(first)


async def test_a_build_says_what_it_does_and_how_long_it_took(machine: Machine) -> None:
    machine.has_go(A_GO)
    await ensure("etcd", report=machine.said.append)

    assert machine.said[0].startswith("etcd (module kubernetes 1.35.4): building with Go 1.99.0")
    assert re.fullmatch(r"etcd \(module kubernetes 1\.35\.4\): built in \d+ s", machine.said[-1])


async def test_a_failed_build_says_why_and_leaves_nothing(machine: Machine) -> None:
    machine.has_go(A_GO_THAT_FAILS)
    with pytest.raises(BuildError, match=r"main\.go:7: undefined: x"):
        await ensure("etcd", report=machine.said.append)
    assert machine.left_behind() == []
    assert list(machine.cache.rglob("etcd")) == []


async def test_the_programs_of_one_module_are_built_together_and_the_first_failure_is_the_error(
    machine: Machine,
) -> None:
    machine.has_go(A_GO)
    built = await ensure("etcd", "kubectl", "versitygw", report=machine.said.append)
    assert {path.read_text() for path in built.values()} == {"program\n"}
    assert machine.builds() == 2

    machine.has_go(A_GO_THAT_FAILS)
    with pytest.raises(BuildError, match=r"main\.go:7: undefined: x"):
        await ensure("etcd", "rclone", "helm", report=machine.said.append)
    assert machine.left_behind() == []


async def test_a_failed_download_is_tried_again(machine: Machine) -> None:
    machine.has_go(A_GO_WITH_A_BAD_LINE)
    await ensure("etcd", report=machine.said.append)
    assert "etcd: a download failed, trying again: dial tcp: connection refused" in machine.said


async def test_what_a_killed_builder_left_is_removed_by_the_next_one(machine: Machine) -> None:
    machine.has_go(A_GO)
    (machine.cache / "counterfoil" / "bin" / module_of("etcd").key() / ".unfinished-dead").mkdir(parents=True)
    await ensure("etcd", report=machine.said.append)
    assert machine.left_behind() == []


async def test_without_go_and_without_a_registry_the_error_says_what_to_install(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(NoGoError, match="Install Go from your distribution"):
        await ensure("etcd", report=machine.said.append)


async def test_an_unknown_program_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'minikube'.*kube-apiserver, kubectl, etcd, .*rclone"):
        await ensure("minikube")


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ("go.etcd.io/etcd/server/v3", "server"),
        ("a.test/b", "b"),
    ],
)
def test_a_program_has_the_name_that_go_gives_it(package: str, name: str) -> None:
    assert output_name(package) == name


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go1.26.8\n", (1, 26, 8)),
        ("go1.27", (1, 27, 0)),
        ("go1.26.0 X:nocoverageredesign", (1, 26, 0)),
        ("devel go1.28-7a1b2c3", (1, 28, 0)),
        ("unknown", None),
    ],
)
def test_every_way_of_saying_a_go_version_is_understood(
    text: str, version: tuple[int, int, int] | None
) -> None:
    assert version_in(text) == version


def test_a_module_needs_the_go_of_its_directive() -> None:
    assert needed_by("module x.test/y\n\ngo 1.25.0\n\nrequire go.test/z v1.2.3\n") == (1, 25, 0)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (165.3, "2 min 45 s")]
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
