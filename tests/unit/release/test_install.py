"""The wheels of another architecture are installed without running anything of them."""

from pathlib import Path

import pytest

from release.image import install


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    (tmp_path / "lib" / "python3.13" / "site-packages").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(("target", "machine"), [("", "x86_64"), ("amd64", "x86_64"), ("arm64", "aarch64")])
def test_the_own_architecture_is_installed_by_its_own_python(
    environment: Path, target: str, machine: str
) -> None:
    command = install.command(environment, target, machine, ["-r", "lock.txt"], glibc="2.36")
    assert f"--python={environment}/bin/python" in command
    assert not [each for each in command if each.startswith("--platform")]


@pytest.mark.parametrize(
    ("target", "machine", "name"), [("arm64", "x86_64", "aarch64"), ("amd64", "aarch64", "x86_64")]
)
def test_another_architecture_gets_wheels_for_the_glibc_of_the_base_and_older(
    environment: Path, target: str, machine: str, name: str
) -> None:
    command = install.command(environment, target, machine, ["-r", "lock.txt"], glibc="2.36")
    platforms = [each for each in command if each.startswith("--platform=")]
    assert platforms[0] == f"--platform=manylinux_2_36_{name}"
    assert platforms[-1] == f"--platform=manylinux_2_17_{name}"
    assert f"--target={environment}/lib/python3.13/site-packages" in command
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)


def test_an_unknown_architecture_is_an_error(environment: Path) -> None:
    with pytest.raises(KeyError):
        install.command(environment, "riscv64", "x86_64", [], glibc="2.36")
