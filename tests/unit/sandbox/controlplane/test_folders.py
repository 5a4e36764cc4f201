"""Ports and folders of a control plane are its own, and do not stay when it is gone."""

import shutil
import socket
import tempfile
from pathlib import Path

from sandbox.controlplane.folders import LOCK, PREFIX, OwnedFolder, owned_folder, remove_abandoned_folders
from sandbox.controlplane.ports import EPHEMERAL, free_port, is_free


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert not is_free(server.getsockname()[1])


def test_a_free_port_is_not_one_that_outgoing_connections_may_take() -> None:
    first, last = map(int, EPHEMERAL.read_text().split())
    assert free_port() not in range(first, last + 1)


def test_a_folder_is_readable_by_its_owner_only_and_goes_with_all_in_it() -> None:
    folder = OwnedFolder()
    (folder.path / "key").write_text("secret")
    assert folder.path.stat().st_mode & 0o777 == 0o700

    folder.remove()
    assert not folder.path.exists()


def test_the_folder_of_a_dead_owner_is_removed() -> None:
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    (folder / LOCK).touch()
    remove_abandoned_folders()
    assert not folder.exists()


def test_folders_of_living_owners_and_unfinished_ones_stay() -> None:
    owned = OwnedFolder()
    unfinished = Path(tempfile.mkdtemp(prefix=PREFIX))
    remove_abandoned_folders()
    stayed = (owned.path.exists(), unfinished.exists())

    owned.remove()
    unfinished.rmdir()
    assert stayed == (True, True)


def test_a_new_folder_removes_folders_of_the_same_kind_only_and_never_one_without_a_lock() -> None:
    dead, other, unlocked = (
        Path(tempfile.mkdtemp(prefix=prefix))
        for prefix in ("counterfoil-test-a-", "counterfoil-test-b-", "counterfoil-test-a-")
    )
    for each in (dead, other):
        (each / LOCK).touch()
    with owned_folder("counterfoil-test-a-") as mine, owned_folder("counterfoil-test-a-") as second:
        stayed = [each.exists() for each in (dead, other, unlocked, mine, second)]
    gone = [mine.exists(), second.exists()]
    for each in (other, unlocked):
        shutil.rmtree(each)

    assert stayed == [False, True, True, True, True]
    assert gone == [False, False]
