"""
Seal senders' API tokens, so that only this installation can open them (rule 7).

A sealed token is ``version ‖ length of key id ‖ key id ‖ nonce ‖ ciphertext``: one byte (2), one byte, the
key id in ASCII, 12 random bytes, AES-256-GCM with its 16-byte tag. The plain text is the origin of the eSAW
that issued the token, a line feed, and the token (rule 11). Its additional data is ``namespace/name/userID``
of the Sender. None of these can contain a slash, so a Secret that was copied to another Sender does not open.

The keys are files in a folder (a mounted Secret), one per key id, each with 32 random bytes in base64. The
last name in sort order seals once its file is ``KEY_SETTLE`` old, so that every process has that key by then.
In a new pod all files are new: there it seals once the controllers have had it as long. All keys open. The
next call detects a changed folder. Data that the pages send to browsers is sealed too, with keys derived from
these, so that every replica can open it. This module calls no cluster, and no error shows a value.

A file that cannot be used costs itself: the key that it had before stays in use, and so do all others.

One release may serve several namespaces. Its own has these keys; each other one has keys that are derived
from them by its name (``Sealing.for_namespace``). So what one namespace sealed opens in no other one, and a
key of a namespace that becomes known is the key of no other (docs/decisions/0082).
"""

import base64
import binascii
import hmac
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from counterfoil.clock import Clock, WallClock
from counterfoil.esaw.token import ApiToken
from counterfoil.kube.secret import SEALED_TOKEN_TYPE
from counterfoil.origin import origin_of
from counterfoil.resources import Sender
from counterfoil.resources.organization import SealingKeyStatus

_log = logging.getLogger(__name__)

VERSION: Final = 2
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
KEY_FILE_BYTES: Final = 1024
"""Maximum number of bytes that are read of a key file; a valid one has 44 characters."""

KEY_SETTLE: Final = timedelta(minutes=5)
"""Time after which every process has a new key: a kubelet updates a mounted Secret within two minutes."""

SECRET_TYPE: Final = SEALED_TOKEN_TYPE
SECRET_KEY: Final = "token"  # noqa: S105 - the name of a key in a Secret

_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

ADVICE: Final = (
    "Put the key back from its copy: what is sealed with it opens with no other key. Only a new "
    "installation, or a rotation that keeps the old keys, needs a new key: `openssl rand -base64 32`."
)


class SealingKeysInvalid(Exception):
    """The folder of sealing keys cannot be used; the message names the folder or file and the remedy, never a
    key."""


class SealBroken(Exception):
    """Sealed data does not open: it was changed or cut, or was sealed for another Sender or purpose."""


class SealKeyUnknown(Exception):
    """Sealed data names a key that is not in the folder. ``key_id`` is its name."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"It is sealed with the key {key_id!r}, which is not among the sealing keys. Put that key's file "
            "back."
        )
        self.key_id = key_id


class Sealed(NamedTuple):
    """A sealed token, and the id of the key that it is sealed with."""

    key_id: str
    data: bytes


@dataclass(frozen=True)
class _Keys:
    """Content of the folder: keys by id, since when each is there, and the stamp of the folder."""

    by_id: Mapping[str, bytes] = field(repr=False)
    since: Mapping[str, datetime]
    stamp: object
    faults: Mapping[str, str] = field(default_factory=dict)
    """The fault of each file that cannot be used; with the name "" for the whole folder."""

    @property
    def newest(self) -> str:
        return max(self.by_id)

    def sealing_key_id(self, now: datetime) -> str:
        """
        Return the last key that has settled.

        If none has, as in a pod that has just started without a report of the controllers, the last one may
        be new: the one before it seals.
        """
        settled = [key_id for key_id, since in self.since.items() if now - since >= KEY_SETTLE]
        return max(settled) if settled else sorted(self.by_id)[-2:][0]


class Sealing:
    """Seals and opens with the keys of one folder, or with those of one namespace that are derived from
    them."""

    def __init__(self, folder: Path, clock: Clock | None = None, *, namespace: str | None = None) -> None:
        """Read the keys; with a namespace, derive its own. Raises ``SealingKeysInvalid`` if none can be
        used."""
        self._folder = folder
        self._clock = clock or WallClock()
        self._namespace = namespace
        self._keys = _read_keys(folder, namespace)
        self._log_faults()

    def for_namespace(self, namespace: str, *, own: str) -> "Sealing":
        """
        Return the keys of a namespace: these for the release's ``own``, else keys that are derived from them.

        Raises ``SealingKeysInvalid`` if the folder has no usable key now.
        """
        return self if namespace == own else self.derived_for(namespace)

    def derived_for(self, namespace: str) -> "Sealing":
        """Return the derived keys of a namespace that is not the release's own. Raises
        ``SealingKeysInvalid``."""
        return Sealing(self._folder, self._clock, namespace=namespace)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of all keys, the newest last."""
        return tuple(sorted(self._current().by_id))

    @property
    def newest(self) -> str:
        """The id of the newest key; it seals once it has settled."""
        return self._current().newest

    @property
    def newest_hash(self) -> str:
        """A hash of the newest key, in hex: it is equal for equal keys, and shows nothing of the key."""
        keys = self._current()
        return key_hash(keys.by_id[keys.newest])

    def is_key_of(self, namespace: str, reported: str) -> bool:
        """
        Whether this is the hash of a key that a namespace has from a file of the folder, derived or as it is.

        A file that cannot be used has none.
        """
        try:
            found = [_read_keys(self._folder, each) for each in (None, namespace)]
        except SealingKeysInvalid:
            return False
        return any(key_hash(key) == reported for keys in found for key in keys.by_id.values())

    @property
    def faults(self) -> tuple[str, ...]:
        """The faults of the folder now, one text for each file that cannot be used; no key is shown."""
        return tuple(self._current().faults.values())

    def fault_count(self) -> int:
        """Return the number of faults; for the metric."""
        return len(self.faults)

    def note_reported_key(self, reported: SealingKeyStatus) -> None:
        """Note since when the controllers have a key, if it is a key of the folder: files of a new pod are
        new."""
        keys = self._current()
        key = keys.by_id.get(reported.id)
        if key is None or not hmac.compare_digest(key_hash(key).encode(), reported.hash.encode()):
            return
        if reported.observed_time < keys.since[reported.id]:
            since = {**keys.since, reported.id: reported.observed_time}
            self._keys = replace(keys, since=since)

    def seal(self, token: ApiToken, namespace: str, sender: Sender) -> Sealed:
        """Seal a token for one Sender, with the newest key that every process has."""
        return self._seal(self._current().sealing_key_id(self._clock.now()), token, namespace, sender)

    def seal_with_newest(self, token: ApiToken, namespace: str, sender: Sender) -> Sealed:
        """Seal a token for one Sender, with the newest key, because a person asked for that."""
        return self._seal(self.newest, token, namespace, sender)

    def open(self, data: bytes, namespace: str, sender: Sender) -> ApiToken:
        """Open what was sealed for this Sender. Raises ``SealBroken`` and ``SealKeyUnknown``."""
        plain = _open(self._key(key_id_of(data)), data, _additional_data(namespace, sender))
        origin, _, token = plain.partition(b"\n")
        try:
            return ApiToken.parse(token, origin_of(origin.decode("ascii")))
        except UnicodeDecodeError:
            raise SealBroken("What was sealed has no origin.") from None
        except ValueError as reason:
            raise SealBroken(f"What was sealed is no API token with its origin: {reason}.") from None

    def seal_for(self, purpose: str, plain: bytes) -> bytes:
        """Seal short-lived data that passes through a browser, with a key derived for this purpose."""
        keys = self._current()
        key_id = keys.sealing_key_id(self._clock.now())
        return _seal(_derived(keys.by_id[key_id], purpose), key_id, plain, purpose.encode())

    def open_for(self, purpose: str, data: bytes) -> bytes:
        """Open what ``seal_for`` sealed for the same purpose. Raises ``SealBroken`` and
        ``SealKeyUnknown``."""
        return _open(_derived(self._key(key_id_of(data)), purpose), data, purpose.encode())

    def _seal(self, key_id: str, token: ApiToken, namespace: str, sender: Sender) -> Sealed:
        plain = f"{token.origin}\n{token.reveal()}".encode()
        additional_data = _additional_data(namespace, sender)
        return Sealed(key_id, _seal(self._key(key_id), key_id, plain, additional_data))

    def _key(self, key_id: str) -> bytes:
        key = self._current().by_id.get(key_id)
        if key is None:
            raise SealKeyUnknown(key_id)
        return key

    def _current(self) -> _Keys:
        """Return the keys in the folder now; the last usable keys for what cannot be used."""
        before = self._keys
        # A folder with a fault is read again each time: not every fault ends with a new stamp.
        if before.faults or _folder_stamp(self._folder) != before.stamp:
            try:
                self._keys = _with_earlier_keys(_read_keys(self._folder, self._namespace), before)
            except SealingKeysInvalid as invalid:
                self._keys = replace(before, faults={"": str(invalid)})
            if self._keys.by_id != before.by_id and self._namespace is None:
                _log.info("the sealing keys changed; the newest is %s", self._keys.newest)
            if self._keys.faults != before.faults:
                self._log_faults()
        return self._keys

    def _log_faults(self) -> None:
        """Log the faults of the folder, once for all namespaces."""
        if self._namespace is not None:
            return
        for each in self._keys.faults.values():
            _log.error("the other sealing keys stay in use, since this one cannot be used: %s", each)


def key_id_of(data: bytes) -> str:
    """Return the id of the key that sealed the data. Raises ``SealBroken`` for data that is not sealed."""
    if len(data) < 2 or data[0] != VERSION:
        raise SealBroken("It is not sealed, or by another version of Counterfoil.")
    length = data[1]
    name = data[2 : 2 + length]
    if len(data) < 2 + length + NONCE_BYTES + TAG_BYTES or not name.isascii():
        raise SealBroken("It was cut or changed after it was sealed.")
    key_id = name.decode("ascii")
    if _KEY_ID.fullmatch(key_id) is None:
        raise SealBroken("It was changed after it was sealed.")
    return key_id


def _additional_data(namespace: str, sender: Sender) -> bytes:
    return f"{namespace}/{sender.name}/{sender.spec.user_id}".encode()


def _seal(key: bytes, key_id: str, plain: bytes, additional_data: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    header = bytes((VERSION, len(key_id))) + key_id.encode("ascii")
    return header + nonce + AESGCM(key).encrypt(nonce, plain, additional_data)


def _open(key: bytes, data: bytes, additional_data: bytes) -> bytes:
    start = 2 + data[1]
    nonce, ciphertext = data[start : start + NONCE_BYTES], data[start + NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, additional_data)
    except InvalidTag:
        raise SealBroken(
            "It was changed after it was sealed, or was sealed for another Sender. Or the key "
            f"{key_id_of(data)!r} was replaced by another one of the same name."
        ) from None


def _derived(key: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), length=KEY_BYTES, salt=None, info=f"counterfoil {purpose}".encode()).derive(key)


def key_hash(key: bytes) -> str:
    """Return a hash of a sealing key, in hex: it is equal for equal keys, and shows nothing of the key."""
    return _derived(key, "key hash").hex()


def _files(folder: Path) -> list[os.DirEntry[str]]:
    """List the key files, without hidden entries: a mounted Secret has ``..data``, and editors make such
    files."""
    try:
        with os.scandir(folder) as entries:
            visible = [each for each in entries if not each.name.startswith(".")]
    except OSError as trouble:
        raise SealingKeysInvalid(
            f"{folder}: the folder of sealing keys can't be read ({trouble.strerror}). "
            "Correct COUNTERFOIL_SEALING_KEYS or --sealing-keys, or mount the Secret there."
        ) from None
    return sorted(visible, key=lambda each: each.name)


def _folder_stamp(folder: Path) -> object:
    """Return a stamp of the folder; it changes with a new key, a removed key and a new content."""
    try:
        seen = [(each.name, each.stat()) for each in _files(folder)]
    except (SealingKeysInvalid, OSError):
        return "unreadable"
    return tuple((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in seen)


def _read_keys(folder: Path, namespace: str | None) -> _Keys:
    """Read all files, and derive the keys of a namespace. Raises ``SealingKeysInvalid`` if there is no usable
    key."""
    # The stamp is read first: the next call then detects a change in between.
    stamp = _folder_stamp(folder)
    by_id: dict[str, bytes] = {}
    since: dict[str, datetime] = {}
    faults: dict[str, str] = {}
    for each in _files(folder):
        try:
            key, since[each.name] = _read_key(each)
            by_id[each.name] = key if namespace is None else _derived(key, f"namespace {namespace}")
        except SealingKeysInvalid as invalid:
            faults[each.name] = str(invalid)
    if not by_id:
        nothing = f"{folder}: there is no sealing key. There is one file per key. {ADVICE}"
        raise SealingKeysInvalid(" ".join(faults.values()) or nothing)
    return _Keys(by_id, since, stamp, faults)


def _with_earlier_keys(keys: _Keys, before: _Keys) -> _Keys:
    """
    Keep since when each known key is there, and the known key of a file that cannot be used now.

    A kubelet writes all files again when it adds one.
    """
    by_id = {**{each: before.by_id[each] for each in keys.faults if each in before.by_id}, **keys.by_id}
    since = {
        each: before.since[each] if before.by_id.get(each) == key else keys.since[each]
        for each, key in by_id.items()
    }
    return replace(keys, by_id=by_id, since=since)


def _read_key(entry: os.DirEntry[str]) -> tuple[bytes, datetime]:
    """Return a key, and since when its file is there."""
    path = Path(entry.path)
    if _KEY_ID.fullmatch(entry.name) is None:
        raise SealingKeysInvalid(
            f"{path}: the name of a sealing key is a letter or digit, then at most 62 letters, digits, dots, "
            "- and _."
        )
    try:
        with path.open("rb") as file:
            text = file.read(KEY_FILE_BYTES)
            # Not the modification time: a copy may have the one of its original.
            since = datetime.fromtimestamp(os.fstat(file.fileno()).st_ctime, UTC)
    except OSError as trouble:
        raise SealingKeysInvalid(f"{path}: the sealing key can't be read ({trouble.strerror}).") from None
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        raise SealingKeysInvalid(
            f"{path}: a sealing key is {KEY_BYTES} bytes in base64; this is no base64. {ADVICE}"
        ) from None
    if len(key) != KEY_BYTES:
        raise SealingKeysInvalid(
            f"{path}: a sealing key is {KEY_BYTES} bytes in base64; these are {len(key)}. {ADVICE}"
        )
    return key, since
