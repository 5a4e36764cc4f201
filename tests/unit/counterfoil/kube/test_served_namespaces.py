"""The namespaces that a process serves: from a list, or from a file that may change while it works."""

import asyncio
import logging
from pathlib import Path

import pytest

from counterfoil.kube.served_namespaces import NamespacesFileInvalid, ServedNamespaces
from counterfoil.settings import CommonSettings, ProcessSettingsInvalid, read
from tests.support.builders import AClock


def served_from(file: Path) -> ServedNamespaces:
    return ServedNamespaces.load(read(CommonSettings, ["--namespaces-file", str(file)], {}), "release")


def a_file(folder: Path, text: str) -> Path:
    file = folder / "list"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_a_list_the_release_s_own_namespace_is_served() -> None:
    served = ServedNamespaces.load(CommonSettings(), "release")

    assert served.names == ("release",)
    assert not served.read_again()


def test_a_list_names_exactly_the_namespaces_that_are_served() -> None:
    served = ServedNamespaces.load(read(CommonSettings, ["--namespaces", "sales,legal"], {}), "release")

    assert served.names == ("sales", "legal")
    assert "sales" in served
    assert "release" not in served


def test_a_list_and_a_file_together_are_refused() -> None:
    with pytest.raises(ProcessSettingsInvalid, match="COUNTERFOIL_NAMESPACES_FILE"):
        read(CommonSettings, ["--namespaces", "sales", "--namespaces-file", "/list"], {})


def test_a_file_has_one_namespace_a_line(tmp_path: Path) -> None:
    assert served_from(a_file(tmp_path, "\nsales\n legal \nsales\n\n")).names == ("sales", "legal")


@pytest.mark.parametrize("line", ["Sales", "sales.x", "../x", "-a", "a b", "sälle", "a" * 64, "a,b", "# a"])
def test_a_line_that_is_no_namespace_is_logged_once_and_left_out(
    line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        served = served_from(a_file(tmp_path, f"sales\n{line}\nlegal\n"))
        served.read_again()

    assert served.names == ("sales", "legal")
    (message,) = caplog.messages
    assert repr(line) in message


def test_more_namespaces_than_the_maximum_are_logged_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = served_from(a_file(tmp_path, "\n".join(f"n{number}" for number in range(52))))

    assert served.names == tuple(f"n{number}" for number in range(50))
    assert "'n50', 'n51'" in caplog.text


@pytest.mark.parametrize("text", ["", "\n\n", "Sales\n"])
def test_a_process_does_not_start_with_a_file_that_names_no_namespace(text: str, tmp_path: Path) -> None:
    with pytest.raises(NamespacesFileInvalid, match="names none"):
        served_from(a_file(tmp_path, text))


def test_a_process_does_not_start_without_its_file(tmp_path: Path) -> None:
    with pytest.raises(NamespacesFileInvalid, match="No such file"):
        served_from(tmp_path / "list")


@pytest.mark.parametrize("content", [None, b"", b"Sales\n", b"\xff\xfe\n"])
def test_a_file_that_becomes_unusable_keeps_the_last_list_and_is_logged_once(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = a_file(tmp_path, "sales\nlegal\n")
    served = served_from(file)
    file.unlink()
    if content is not None:
        file.write_bytes(content)

    assert not served.read_again()
    assert not served.read_again()

    assert served.names == ("sales", "legal")
    (message,) = caplog.messages
    assert "these are served: sales, legal" in message


def test_a_file_that_was_corrected_is_followed_again(tmp_path: Path) -> None:
    file = a_file(tmp_path, "sales\n")
    served = served_from(file)
    file.unlink()
    served.read_again()
    a_file(tmp_path, "sales\nlegal\n")

    assert served.read_again()
    assert served.names == ("sales", "legal")


async def test_each_change_of_the_file_is_seen_after_ten_seconds(tmp_path: Path) -> None:
    file, clock, seen = a_file(tmp_path, "sales\n"), AClock(), list[tuple[str, ...]]()
    changes = iter(["sales\nlegal\n", "legal\nsales\n", "legal\n"])

    async for names in served_from(file).follow(clock):
        seen.append(names)
        if len(seen) == 3:
            break
        file.write_text(next(changes), encoding="utf-8")
        if len(seen) == 2:  # Another order is no change; the next read sees one.
            asyncio.get_running_loop().call_soon(file.write_text, next(changes))

    assert seen == [("sales",), ("sales", "legal"), ("legal",)]
    assert set(clock.slept) == {10.0}
