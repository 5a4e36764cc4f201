"""The command of the chart's Job creates a Secret with one key that seals, and changes none that exists."""

import base64
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli.create_sealing_key import create, main, sealing_key_secret
from counterfoil.kube.errors import AlreadyExists, Forbidden
from counterfoil.sealing import Sealing, SealKeyUnknown
from counterfoil.settings import CreateSealingKeySettings, ProcessSettingsInvalid, read
from tests.support.fakes.kube import InMemoryKubeClient


class Secrets(InMemoryKubeClient):
    """Takes one Secret, as the API server does for an account that may only create."""

    def __init__(self, refusal: Exception | None = None) -> None:
        super().__init__()
        self.refusal = refusal
        self.created: list[Mapping[str, Any]] = []

    async def create_secret(self, body: Mapping[str, Any]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.created.append(body)


def mounted_key(folder: Path, random: Callable[[int], bytes]) -> None:
    """Write the files of a new Secret, as Kubernetes mounts them."""
    for name, value in sealing_key_secret("keys", {}, random)["data"].items():
        (folder / name).write_bytes(base64.b64decode(value))


def test_the_secret_mounted_as_a_folder_is_a_folder_of_sealing_keys(tmp_path: Path) -> None:
    mounted_key(tmp_path, lambda count: bytes(range(count)))
    (name,) = Sealing(tmp_path).key_ids
    assert re.fullmatch("0-generated-[0-9a-f]{16}", name)
    assert Sealing(tmp_path).faults == ()
    assert base64.b64decode((tmp_path / name).read_bytes()) == bytes(range(32))


def test_a_seal_of_a_key_that_was_lost_names_a_missing_key_after_a_new_one_was_created(
    tmp_path: Path,
) -> None:
    mounted_key(tmp_path, bytes)
    sealed = Sealing(tmp_path).seal_for("flow", b"state")
    for each in tmp_path.iterdir():
        each.unlink()
    mounted_key(tmp_path, os.urandom)

    with pytest.raises(SealKeyUnknown):
        Sealing(tmp_path).open_for("flow", sealed)


def test_a_key_of_an_earlier_version_opens_what_it_sealed_beside_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "0-generated").write_bytes(base64.b64encode(bytes(32)))
    sealed = Sealing(tmp_path).seal_for("flow", b"state")
    mounted_key(tmp_path, os.urandom)

    assert Sealing(tmp_path).open_for("flow", sealed) == b"state"
    assert Sealing(tmp_path).newest != "0-generated"


def test_a_key_that_is_named_for_a_year_sorts_after_it() -> None:
    (name,) = sealing_key_secret("keys", {}, bytes)["data"]
    assert max(name, "2026-11") == "2026-11"


def test_no_label_of_the_user_changes_the_use() -> None:
    labels = sealing_key_secret("keys", {"team": "legal", "counterfoil.dev/use": "smtp"}, bytes)["metadata"]
    assert labels["labels"] == {"team": "legal", "counterfoil.dev/use": "sealing"}


async def test_each_installation_has_another_key() -> None:
    kube = Secrets()
    assert await create(kube, "keys", {})
    assert await create(kube, "keys", {})
    first, second = (each["data"] for each in kube.created)
    assert not set(first) & set(second)
    assert set(first.values()) != set(second.values())


async def test_a_secret_that_exists_is_left_as_it_is() -> None:
    assert not await create(Secrets(AlreadyExists(409, "AlreadyExists", "it exists")), "keys", {})


async def test_any_other_refusal_is_an_error() -> None:
    with pytest.raises(Forbidden):
        await create(Secrets(Forbidden(403, "Forbidden", "no")), "keys", {})


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "--secret"),
        (["--secret", "keys", "--labels", "team"], "each label is name=value"),
        (["--secret", "keys", "--labels", "a=b,,c"], "each label is name=value"),
    ],
)
def test_settings_that_mean_nothing_are_refused(argv: list[str], complaint: str) -> None:
    with pytest.raises(ProcessSettingsInvalid, match=complaint):
        read(CreateSealingKeySettings, argv, {})


def test_without_an_api_server_it_ends_with_a_line_and_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    assert main(["--secret", "keys"], {}) == 1
    said = capsys.readouterr().err
    assert "the Secret keys cannot be created" in said
    assert "Traceback" not in said
