"""
Sealing: only the right Sender's token opens, with any key that is there, and nothing ever shows a value.
"""

import base64
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from counterfoil.esaw import ApiToken
from counterfoil.resources import LocalObjectReference, Sender
from counterfoil.resources.base import ObjectMeta
from counterfoil.resources.sender import SenderSpec
from counterfoil.sealing import KEY_BYTES, SealBroken, Sealing, SealingKeysInvalid, SealKeyUnknown, key_id_of
from tests.support.builders import ORIGIN, AClock

TOKEN = ApiToken.parse("A1b2" * 16, ORIGIN)


def a_sender(name: str = "anna", user_id: str = "7a0f9b9e-0000-4000-8000-000000000001") -> Sender:
    return Sender(
        metadata=ObjectMeta(name=name),
        spec=SenderSpec(organization_ref=LocalObjectReference(name="acme"), user_id=user_id),
    )


def put_key(folder: Path, key_id: str, key: bytes | None = None) -> None:
    (folder / key_id).write_bytes(base64.b64encode(key or os.urandom(KEY_BYTES)) + b"\n")


def created(file: Path) -> datetime:
    return datetime.fromtimestamp(file.stat().st_ctime, UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put_key(tmp_path, "2026-01")
    return tmp_path


@pytest.fixture
def sealing(folder: Path) -> Sealing:
    return Sealing(folder)


def test_what_was_sealed_opens_again(sealing: Sealing) -> None:
    sealed = sealing.seal(TOKEN, "contracts", a_sender())

    assert sealed.key_id == key_id_of(sealed.data) == "2026-01"
    assert TOKEN.reveal().encode() not in sealed.data
    assert sealing.open(sealed.data, "contracts", a_sender()) == TOKEN


def test_the_same_token_never_looks_the_same_twice(sealing: Sealing) -> None:
    assert len({sealing.seal(TOKEN, "contracts", a_sender()).data for _ in range(50)}) == 50


@pytest.mark.parametrize(
    ("namespace", "other"),
    [
        ("contracts", a_sender("bruno")),
        ("contracts", a_sender(user_id="7a0f9b9e-0000-4000-8000-000000000002")),
        ("elsewhere", a_sender()),
    ],
)
def test_a_copied_secret_does_not_open_for_another_name_user_or_namespace(
    sealing: Sealing, namespace: str, other: Sender
) -> None:
    sealed = sealing.seal(TOKEN, "contracts", a_sender())

    with pytest.raises(SealBroken):
        sealing.open(sealed.data, namespace, other)


def test_a_change_of_any_single_byte_is_noticed(sealing: Sealing) -> None:
    sealed = sealing.seal(TOKEN, "contracts", a_sender()).data

    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 0x01
        with pytest.raises((SealBroken, SealKeyUnknown)):
            sealing.open(bytes(changed), "contracts", a_sender())


def test_nothing_that_was_cut_or_lengthened_opens(sealing: Sealing) -> None:
    sealed = sealing.seal(TOKEN, "contracts", a_sender()).data

    for wrong in [*(sealed[:length] for length in range(len(sealed))), sealed + b"x"]:
        with pytest.raises((SealBroken, SealKeyUnknown)):
            sealing.open(wrong, "contracts", a_sender())


def test_the_last_name_seals_and_all_open(folder: Path) -> None:
    old = Sealing(folder).seal(TOKEN, "contracts", a_sender())
    put_key(folder, "2026-07")
    sealing = Sealing(folder, AClock(datetime.now(UTC) + timedelta(minutes=6)))

    new = sealing.seal(TOKEN, "contracts", a_sender())

    assert (old.key_id, new.key_id) == ("2026-01", "2026-07")
    assert sealing.key_ids == ("2026-01", "2026-07")
    assert sealing.open(old.data, "contracts", a_sender()) == TOKEN
    assert sealing.open(new.data, "contracts", a_sender()) == TOKEN


def test_a_changed_folder_counts_at_once(folder: Path, sealing: Sealing) -> None:
    put_key(folder, "2026-07")
    sealed_elsewhere = Sealing(folder).seal_with_newest(TOKEN, "contracts", a_sender())

    assert sealing.newest == sealed_elsewhere.key_id == "2026-07"
    assert sealing.open(sealed_elsewhere.data, "contracts", a_sender()) == TOKEN


def test_a_key_that_was_just_mounted_does_not_seal_yet(folder: Path, sealing: Sealing) -> None:
    put_key(folder, "2026-07")

    assert sealing.seal(TOKEN, "contracts", a_sender()).key_id == "2026-01"
    assert sealing.seal_for("flow", b"state")[2:9] == b"2026-01"
    assert sealing.seal_with_newest(TOKEN, "contracts", a_sender()).key_id == "2026-07"


def test_a_key_that_has_been_there_for_minutes_seals(folder: Path) -> None:
    clock = AClock(datetime.now(UTC))
    sealing = Sealing(folder, clock)
    put_key(folder, "2026-07")
    assert sealing.seal(TOKEN, "contracts", a_sender()).key_id == "2026-01"

    clock.advance(minutes=6)

    assert sealing.seal(TOKEN, "contracts", a_sender()).key_id == "2026-07"
    assert sealing.seal_for("flow", b"state")[2:9] == b"2026-07"


def test_a_known_key_keeps_its_age_when_a_kubelet_writes_all_files_again(folder: Path) -> None:
    put_key(folder, "2026-07", b"\1" * KEY_BYTES)
    first = created(folder / "2026-07")
    clock = AClock(first + timedelta(minutes=5))
    sealing = Sealing(folder, clock)

    while created(folder / "2026-07") == first:
        (folder / "2026-07").unlink()
        put_key(folder, "2026-07", b"\1" * KEY_BYTES)

    assert sealing.seal(TOKEN, "contracts", a_sender()).key_id == "2026-07"
    put_key(folder, "2026-07", b"\2" * KEY_BYTES)
    assert sealing.seal(TOKEN, "contracts", a_sender()).key_id == "2026-01"


def test_a_mounted_secret_that_is_swapped_as_kubernetes_does_it_counts_at_once(tmp_path: Path) -> None:
    for number, key_id in ((1, "a"), (2, "b")):
        (tmp_path / f"..2026_{number}").mkdir()
        put_key(tmp_path / f"..2026_{number}", key_id)
        put_key(tmp_path / f"..2026_{number}", "first", b"\1" * KEY_BYTES)
    (tmp_path / "..data").symlink_to("..2026_1")
    (tmp_path / "a").symlink_to("..data/a")
    sealing = Sealing(tmp_path)
    assert sealing.key_ids == ("a",)

    (tmp_path / "..data_tmp").symlink_to("..2026_2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    (tmp_path / "b").symlink_to("..data/b")
    (tmp_path / "a").unlink()

    assert sealing.key_ids == ("b",)


def test_a_key_that_is_gone_is_named(folder: Path, sealing: Sealing) -> None:
    sealed = sealing.seal(TOKEN, "contracts", a_sender())
    put_key(folder, "2026-07")
    (folder / "2026-01").unlink()

    with pytest.raises(SealKeyUnknown, match=r"sealed with the key '2026-01', which is not among"):
        sealing.open(sealed.data, "contracts", a_sender())


def add_no_key(folder: Path) -> None:
    (folder / "2026-07").write_text("not base64!")


def add_a_link_to_nothing(folder: Path) -> None:
    (folder / "2026-07").symlink_to("nowhere")


def remove_the_folder(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("spoil", [add_no_key, add_a_link_to_nothing, remove_the_folder])
def test_while_the_new_keys_are_bad_the_old_ones_stay_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    folder = tmp_path / "keys-until-2026-07"
    folder.mkdir()
    put_key(folder, "2026-01")
    sealing = Sealing(folder)
    spoil(folder)

    with caplog.at_level(logging.ERROR):
        assert sealing.seal(TOKEN, "contracts", a_sender()).key_id == "2026-01"
        assert sealing.newest == "2026-01"

    assert len(caplog.records) == 1, "said once, not at every call"
    assert ["2026-07" in each for each in sealing.faults] == [True]


def test_good_keys_have_no_fault(sealing: Sealing) -> None:
    assert sealing.faults == ()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("k1", base64.b64encode(bytes(31)), "these are 31"),
        ("k1", base64.b64encode(bytes(33)), "these are 33"),
        ("k1", b"", "these are 0"),
        ("k1", b"*" * 44, "no base64"),
        ("k1", b"\xff" * 32, "no base64"),
        ("bad name", base64.b64encode(bytes(32)), "the name of a sealing key"),
        ("k" * 64, base64.b64encode(bytes(32)), "the name of a sealing key"),
    ],
)
def test_a_bad_key_file_is_named_with_what_is_wrong(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SealingKeysInvalid, match=says) as refused:
        Sealing(tmp_path)

    assert name in str(refused.value)


def test_of_a_key_file_1024_bytes_are_read(tmp_path: Path) -> None:
    key = base64.b64encode(bytes(KEY_BYTES))
    (tmp_path / "k1").write_bytes(key.rjust(1024))
    assert Sealing(tmp_path).key_ids == ("k1",)

    (tmp_path / "k1").write_bytes(key.rjust(1025))
    with pytest.raises(SealingKeysInvalid, match="k1"):
        Sealing(tmp_path)


def test_an_empty_folder_and_a_missing_one_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SealingKeysInvalid, match="openssl rand"):
        Sealing(tmp_path)
    with pytest.raises(SealingKeysInvalid, match="COUNTERFOIL_SEALING_KEYS"):
        Sealing(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [None, b"", b"no base64!", base64.b64encode(bytes(16))])
def test_without_a_usable_key_the_first_advice_is_to_put_the_keys_in_use_back(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "k1").write_bytes(content)
    with pytest.raises(SealingKeysInvalid) as refused:
        Sealing(tmp_path)
    before, _, after = str(refused.value).partition("Only a new installation")
    assert "Put the key back from its copy" in before
    assert "openssl" not in before
    assert "openssl rand" in after


def test_a_folder_among_the_keys_is_a_fault_that_names_it(folder: Path) -> None:
    (folder / "lost+found").mkdir()
    assert ["lost+found" in each for each in Sealing(folder).faults] == [True]


def test_no_error_and_no_text_shows_a_key_or_a_token(tmp_path: Path) -> None:
    key = os.urandom(31)
    put_key(tmp_path, "k1", key)
    with pytest.raises(SealingKeysInvalid) as refused:
        Sealing(tmp_path)
    assert base64.b64encode(key).decode() not in str(refused.value)

    key = os.urandom(KEY_BYTES)
    put_key(tmp_path, "k1", key)
    sealing = Sealing(tmp_path)
    shown = f"{sealing!r}{sealing.__dict__!r}"
    assert base64.b64encode(key).decode() not in shown
    assert repr(key) not in shown
    assert TOKEN.reveal() not in repr(sealing.seal(TOKEN, "contracts", a_sender()))


def test_what_is_sealed_for_one_purpose_opens_for_no_other(sealing: Sealing) -> None:
    sealed = sealing.seal_for("flow", b"state")

    assert sealing.open_for("flow", sealed) == b"state"
    with pytest.raises(SealBroken):
        sealing.open_for("session", sealed)
    with pytest.raises(SealBroken):
        sealing.open(sealed, "contracts", a_sender())


def test_a_token_opens_with_the_origin_that_it_was_sealed_with(sealing: Sealing) -> None:
    elsewhere = ApiToken.parse(TOKEN.reveal(), "https://elsewhere.example:8443")

    sealed = sealing.seal(elsewhere, "contracts", a_sender())

    assert sealed.data[0] == 2
    assert b"elsewhere" not in sealed.data
    assert sealing.open(sealed.data, "contracts", a_sender()).origin == "https://elsewhere.example:8443"


def test_a_seal_of_the_first_version_has_no_origin_and_does_not_open(sealing: Sealing) -> None:
    sealed = bytearray(sealing.seal(TOKEN, "contracts", a_sender()).data)
    sealed[0] = 1

    with pytest.raises(SealBroken, match="another version"):
        sealing.open(bytes(sealed), "contracts", a_sender())


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ("", "is no API token with its origin: "),
        ("esaw.example.com", "is no API token with its origin: "),
        ("https://user@esaw.example.com", "is no API token with its origin: "),
        ("https://es\u00e4w", r"has no origin\.$"),
    ],
)
def test_what_is_sealed_without_a_usable_origin_does_not_open(
    sealing: Sealing, origin: str, says: str
) -> None:
    sealed = sealing.seal(ApiToken.parse(TOKEN.reveal(), origin), "contracts", a_sender())

    with pytest.raises(SealBroken, match=says):
        sealing.open(sealed.data, "contracts", a_sender())


def test_a_token_that_is_sealed_again_keeps_its_origin(folder: Path, sealing: Sealing) -> None:
    sealed = sealing.seal(TOKEN, "contracts", a_sender())
    put_key(folder, "2026-07")

    again = sealing.seal_with_newest(
        sealing.open(sealed.data, "contracts", a_sender()), "contracts", a_sender()
    )

    assert (again.key_id, sealing.open(again.data, "contracts", a_sender()).origin) == ("2026-07", ORIGIN)


def test_a_sealed_token_has_the_documented_form(tmp_path: Path) -> None:
    key = bytes(range(KEY_BYTES))
    put_key(tmp_path, "k1", key)
    data = Sealing(tmp_path).seal(TOKEN, "contracts", a_sender()).data

    header, nonce, ciphertext = data[:4], data[4:16], data[16:]
    assert header == b"\x02\x02k1"
    additional_data = b"contracts/anna/7a0f9b9e-0000-4000-8000-000000000001"
    plain = AESGCM(key).decrypt(nonce, ciphertext, additional_data)
    assert plain == f"{ORIGIN}\n{TOKEN.reveal()}".encode()


def test_data_for_a_browser_has_the_documented_form_and_a_derived_key(tmp_path: Path) -> None:
    key = bytes(range(KEY_BYTES))
    put_key(tmp_path, "k1", key)
    data = Sealing(tmp_path).seal_for("flow", b"state")

    derived = HKDF(SHA256(), length=32, salt=None, info=b"counterfoil flow").derive(key)
    assert data[:4] == b"\x02\x02k1"
    assert AESGCM(derived).decrypt(data[4:16], data[16:], b"flow") == b"state"


def test_the_shortest_sealed_data_opens_and_one_byte_less_was_cut(sealing: Sealing) -> None:
    shortest = sealing.seal_for("flow", b"")

    assert sealing.open_for("flow", shortest) == b""
    for cut in (shortest[:-1], shortest[:2]):
        with pytest.raises(SealBroken, match="was cut"):
            key_id_of(cut)


@pytest.mark.parametrize("data", [b"", b"\x02"])
def test_what_is_too_short_for_a_header_is_not_sealed(data: bytes) -> None:
    with pytest.raises(SealBroken, match="not sealed"):
        key_id_of(data)


@pytest.mark.parametrize("name", [b"", b"-k", b"k\xff", b"k" * 64])
def test_no_key_has_a_name_of_another_form(name: bytes) -> None:
    with pytest.raises(SealBroken):
        key_id_of(bytes((2, len(name))) + name + bytes(28))


def test_a_key_may_have_a_name_of_63_characters(tmp_path: Path) -> None:
    put_key(tmp_path, "k" * 63)
    sealing = Sealing(tmp_path)
    sealed = sealing.seal(TOKEN, "contracts", a_sender())
    assert key_id_of(sealed.data) == "k" * 63
    assert sealing.open(sealed.data, "contracts", a_sender()) == TOKEN


@pytest.mark.parametrize(("age", "sealer"), [(299, "2026-01"), (300, "2026-07")])
def test_a_new_key_seals_from_the_fifth_minute_on(folder: Path, age: int, sealer: str) -> None:
    os.utime(folder / "2026-01")
    put_key(folder, "2026-07")
    sealing = Sealing(folder, AClock(created(folder / "2026-07") + timedelta(seconds=age)))
    assert sealing.seal(TOKEN, "contracts", a_sender()).key_id == sealer


def test_if_every_key_is_new_the_last_but_one_seals(tmp_path: Path) -> None:
    for key_id in ("a", "b", "c"):
        put_key(tmp_path, key_id)
    sealing = Sealing(tmp_path, AClock(datetime.now(UTC)))
    assert sealing.newest == "c"
    assert sealing.seal(TOKEN, "contracts", a_sender()).key_id == "b"


def test_keys_that_are_good_again_are_used_and_bad_ones_are_reported_again(
    folder: Path, sealing: Sealing, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        (folder / "2026-07").write_text("not base64!")
        assert sealing.newest == "2026-01"
        put_key(folder, "2026-07")
        assert sealing.newest == "2026-07"
        (folder / "2026-08").write_text("not base64 either!")
        assert sealing.newest == "2026-07"
    assert len(caplog.records) == 2


def test_a_key_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "2026-07").mkdir()
    assert ["2026-07: the sealing key can't be read" in each for each in Sealing(folder).faults] == [True]


def test_a_key_that_is_unknown_is_reported_to_the_caller(folder: Path) -> None:
    with pytest.raises(SealKeyUnknown) as unknown:
        Sealing(folder).open(b"\x02\x02k9" + bytes(28), "contracts", a_sender())
    assert unknown.value.key_id == "k9"


def test_a_key_file_that_cannot_be_used_costs_no_other_key(folder: Path) -> None:
    (folder / "2026-07").write_text("not base64!")
    sealing = Sealing(folder)

    sealed = sealing.seal(TOKEN, "contracts", a_sender())

    assert sealed.key_id == sealing.newest == "2026-01"
    assert sealing.open(sealed.data, "contracts", a_sender()) == TOKEN


def test_the_key_of_a_file_that_became_invalid_stays_in_use_and_a_new_one_beside_it_counts(
    folder: Path, sealing: Sealing
) -> None:
    sealed = sealing.seal(TOKEN, "contracts", a_sender())
    (folder / "2026-01").write_text("not base64!")
    put_key(folder, "2026-07")

    assert sealing.key_ids == ("2026-01", "2026-07")
    assert sealing.open(sealed.data, "contracts", a_sender()) == TOKEN
    assert ["2026-01" in each for each in sealing.faults] == [True]


def test_a_fault_ends_with_its_cause(folder: Path, sealing: Sealing) -> None:
    (folder / "2026-07").write_text("not base64!")
    assert sealing.fault_count() == 1

    (folder / "2026-07").unlink()

    assert sealing.fault_count() == 0
    assert sealing.key_ids == ("2026-01",)


def test_the_release_s_own_namespace_has_the_keys_as_they_are(sealing: Sealing) -> None:
    assert sealing.for_namespace("release", own="release") is sealing


def test_each_further_namespace_has_the_documented_derived_key(tmp_path: Path) -> None:
    key = os.urandom(KEY_BYTES)
    put_key(tmp_path, "2026-01", key)
    derived = HKDF(SHA256(), length=KEY_BYTES, salt=None, info=b"counterfoil namespace unit-a").derive(key)
    unit_a = Sealing(tmp_path).for_namespace("unit-a", own="release")

    sealed = unit_a.seal(TOKEN, "unit-a", a_sender()).data

    start = 2 + len("2026-01")
    plain = AESGCM(derived).decrypt(
        sealed[start : start + 12],
        sealed[start + 12 :],
        b"unit-a/anna/7a0f9b9e-0000-4000-8000-000000000001",
    )
    assert plain == f"{ORIGIN}\n{TOKEN.reveal()}".encode()


@pytest.mark.parametrize("other", ["release", "unit-b", "unit-aa"])
def test_what_a_namespace_sealed_opens_in_no_other_one(sealing: Sealing, other: str) -> None:
    unit_a, other_sealing = (sealing.for_namespace(each, own="release") for each in ("unit-a", other))
    # With the additional data of the namespace that sealed: the key alone must refuse.
    sealed = unit_a.seal(TOKEN, "unit-a", a_sender()).data
    for_browser = unit_a.seal_for("flow", b"state")

    with pytest.raises(SealBroken):
        other_sealing.open(sealed, "unit-a", a_sender())
    with pytest.raises(SealBroken):
        other_sealing.open_for("flow", for_browser)
    assert unit_a.newest_hash != other_sealing.newest_hash


def test_every_replica_derives_the_same_key_of_a_namespace(folder: Path, sealing: Sealing) -> None:
    sealed = sealing.for_namespace("unit-a", own="release").seal_for("flow", b"state")

    assert Sealing(folder).for_namespace("unit-a", own="release").open_for("flow", sealed) == b"state"


def test_a_namespace_follows_a_rotation_of_the_release_s_keys(folder: Path, sealing: Sealing) -> None:
    unit_a = sealing.for_namespace("unit-a", own="release")
    old = unit_a.seal(TOKEN, "unit-a", a_sender())
    put_key(folder, "2026-07")

    new = unit_a.seal_with_newest(TOKEN, "unit-a", a_sender())

    assert (old.key_id, new.key_id) == ("2026-01", "2026-07")
    assert unit_a.open(old.data, "unit-a", a_sender()) == unit_a.open(new.data, "unit-a", a_sender()) == TOKEN


def test_a_bad_key_file_is_logged_once_however_many_namespaces_there_are(
    folder: Path, sealing: Sealing, caplog: pytest.LogCaptureFixture
) -> None:
    unit_a, unit_b = (sealing.for_namespace(each, own="release") for each in ("unit-a", "unit-b"))
    (folder / "2026-07").write_text("no base64!")

    assert unit_a.faults == unit_b.faults == sealing.faults != ()
    assert len([each for each in caplog.messages if "2026-07" in each]) == 1
