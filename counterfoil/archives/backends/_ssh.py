"""
The SSH connection of one archive: opened when it is needed, shared by all transfers, closed when it is idle.

A server is believed only if it has one of the keys that the Archive names. Nothing of the machine's own SSH
set-up is read: no configuration, no known_hosts, no agent, no keys in home folders.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncssh

from counterfoil._upstream.asyncssh_packets import bound_packets
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnavailable,
    SettingsInvalid,
    address_forbidden,
    connections_closed,
)
from counterfoil.resources.archive import Sftp
from counterfoil.untrusted.addresses import ALLOWED, AddressForbidden

CONNECT_SECONDS = 10.0
LOGIN_SECONDS = 20.0

KEEPALIVE_SECONDS = 15
"""A server that says nothing is asked after this time whether it lives, and given up after the third
question."""

IDLE_SECONDS = 60.0
"""Timeout for idle connections, after which they are closed."""

# What a server may sign with. Not SHA-1, nor DSA.
HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
KEY_EXCHANGES = "-*group-exchange*,*-sha512,*-sha1,rsa*"
"""Those of asyncssh without old ones, and without those that take long on the event loop, before the server
has shown its key: the check of a prime that the server chooses takes minutes, and a fixed group of 8,192
bits (with SHA-512) tenths of a second."""

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")

# It tells of every connection and every file, which is for debugging the library.
logging.getLogger("asyncssh").setLevel(logging.WARNING)


@dataclass(frozen=True)
class HostKeys:
    """The host keys that a server may have: whole keys and fingerprints of keys."""

    fingerprints: frozenset[str]
    algorithms: tuple[str, ...]

    @classmethod
    def read(cls, archive: str, lines: Sequence[str]) -> "HostKeys":
        """Read ``spec.sftp.hostKeys``. Raises ``SettingsInvalid``."""
        fingerprints: set[str] = set()
        kinds: set[str] = set()
        for line in lines:
            if _FINGERPRINT.fullmatch(line):
                fingerprints.add(line)
                continue
            try:
                key = asyncssh.import_public_key(line)
            except asyncssh.KeyImportError as error:
                raise SettingsInvalid(
                    f"Archive/{archive}: spec.sftp.hostKeys has an entry that is no public key. Write it as "
                    "`ssh-keyscan` prints it, without the name, or as its fingerprint, SHA256:…."
                ) from error
            fingerprints.add(key.get_fingerprint())
            kinds.add(key.get_algorithm())
        if not fingerprints:
            raise SettingsInvalid(
                f"Archive/{archive}: spec.sftp.hostKeys is empty, and an unknown server is never trusted."
            )
        # A server shows one key only, of the first kind that it has: those that we know come first.
        known = [name for name in HOST_KEY_ALGORITHMS if _kind(name) in kinds]
        return cls(
            frozenset(fingerprints), (*known, *(name for name in HOST_KEY_ALGORITHMS if name not in known))
        )


@dataclass(frozen=True)
class SshLogin:
    """The login at the server."""

    username: str
    password: str | None = field(repr=False)
    key: asyncssh.SSHKey | None = field(repr=False)
    secret: str
    """In words, for messages."""

    @classmethod
    def read(cls, archive: str, credentials: Credentials) -> "SshLogin":
        """Read the Secret. Raises ``SettingsInvalid``."""
        username = credentials.required_line("username")
        text, password = credentials.multiline_text("privateKey"), credentials.line("password")
        if text is None and password is None:
            names = (credentials.name_of(each) for each in ("password", "privateKey"))
            raise credentials.lacks("has neither `{}` nor `{}`".format(*names), "password")
        return cls(username, password, _private_key(archive, credentials, text), credentials.secret)


class SshConnection:
    """A connection to one server, as often as one is needed."""

    def __init__(self, archive: str, settings: Sftp, host_keys: HostKeys, login: SshLogin) -> None:
        self._archive = archive
        self._settings = settings
        self._host_keys = host_keys
        self._login = login
        self._addresses = ALLOWED.get()
        self._lock = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sftp: asyncssh.SFTPClient | None = None
        self._users = 0
        self._is_closed = False
        self._idle: asyncio.TimerHandle | None = None

    @property
    def server(self) -> str:
        """The server in words, for messages."""
        return f"the SFTP server {self._settings.host}:{self._settings.port}"

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncssh.SFTPClient]:
        """Give an SFTP session. Raises ``ArchiveError`` when none can be had."""
        self._users += 1
        try:
            yield await self._open()
        finally:
            self._users -= 1
            if self._idle is not None:
                self._idle.cancel()
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end_if_idle)

    def drop(self) -> None:
        """Have the next session open a new connection."""
        if self._connection is not None:
            self._connection.abort()
        self._connection = self._sftp = None

    async def close(self) -> None:
        """Close the connection; no other one is opened."""
        self._is_closed = True
        connection = self._connection
        if self._idle is not None:
            self._idle.cancel()
        self.drop()
        if connection is not None:
            await connection.wait_closed()

    def _end_if_idle(self) -> None:
        if not self._users:
            self.drop()

    async def _open(self) -> asyncssh.SFTPClient:
        async with self._lock:
            self._drop_if_closed()
            if self._connection is not None and self._sftp is not None and not self._connection.is_closed():
                return self._sftp
            client = _SshClient(self._host_keys)
            try:
                self._connection = await self._connect(client)
                async with asyncio.timeout(LOGIN_SECONDS):
                    # As for file systems: names of others need not be text.
                    self._sftp = await self._connection.start_sftp_client(path_errors="surrogateescape")
            except asyncio.CancelledError:
                self.drop()
                raise
            except Exception as error:
                # asyncssh decodes numbers of a server that nobody trusts yet, with errors of many types.
                self.drop()
                raise self._error(error, client) from error
            self._drop_if_closed()
            return self._sftp

    def _drop_if_closed(self) -> None:
        if self._is_closed:
            self.drop()
            raise connections_closed(self._archive)

    async def _connect(self, client: "_SshClient") -> asyncssh.SSHClientConnection:
        """Connect to a checked address. Raises ``AddressForbidden``, and what asyncssh raises."""
        host, port = self._settings.host, self._settings.port
        async with asyncio.timeout(CONNECT_SECONDS):
            *others, last = await self._addresses.of(host, port)
        for address in others:
            with suppress(OSError, TimeoutError):
                return await self._connect_to(address, client)
        return await self._connect_to(last, client)

    async def _connect_to(self, address: str, client: "_SshClient") -> asyncssh.SSHClientConnection:
        login = self._login
        bound_packets()
        return await asyncssh.connect(
            address,
            self._settings.port,
            username=login.username,
            password=login.password,
            client_keys=None if login.key is None else [login.key],
            client_factory=lambda: client,
            # No key is known beforehand, so that the visitor is asked about each.
            known_hosts=([], [], []),
            server_host_key_algs=list(self._host_keys.algorithms),
            kex_algs=KEY_EXCHANGES,
            # asyncssh has no bound for what 250 KiB become when they are decompressed.
            compression_algs=None,
            config=None,
            agent_path=None,
            gss_auth=False,
            gss_kex=False,
            host_based_auth=False,
            x509_trusted_certs=None,
            connect_timeout=CONNECT_SECONDS,
            login_timeout=LOGIN_SECONDS,
            keepalive_interval=KEEPALIVE_SECONDS,
        )

    def _error(self, error: Exception, client: "_SshClient") -> ArchiveError:
        if client.refused is not None:
            return ArchiveRefused(
                "ArchiveHostKeyUnknown",
                f"{self._archive}: {self.server} shows a host key that spec.sftp.hostKeys does not have: "
                f"{client.refused}. Nothing was sent. If its owner confirms this key, add it.",
            )
        if isinstance(error, AddressForbidden):
            return address_forbidden(self._archive, self.server, "spec.sftp.host")
        if isinstance(error, asyncssh.PermissionDenied):
            return ArchiveRefused(
                "ArchiveCredentialsRejected",
                f"{self._archive}: {self.server} does not accept the login in {self._login.secret}. Give a "
                "valid one.",
            )
        if isinstance(error, asyncssh.ChannelOpenError | asyncssh.SFTPError):
            return ArchiveRefused(
                "ArchiveLacksFeature",
                f"{self._archive}: {self.server} lets the login in but gives it no SFTP. Allow it there.",
            )
        if isinstance(error, asyncssh.KeyExchangeFailed | asyncssh.ProtocolNotSupported):
            return ArchiveRefused(
                "ArchiveTlsFailed",
                f"{self._archive}: {self.server} offers no method that Counterfoil accepts to exchange keys, "
                "to encrypt or to prove who it is. Let it offer the key exchange curve25519-sha256, "
                "ecdh-sha2-nistp256 or diffie-hellman-group14-sha256, and transfer without compression. Old "
                "software needs an update.",
            )
        if isinstance(error, asyncssh.Error | OSError | TimeoutError | UnicodeError):
            return ArchiveUnavailable(
                "ArchiveUnreachable", f"{self._archive}: {self.server} could not be reached."
            )
        return ArchiveUnavailable(
            "ArchiveFailing", f"{self._archive}: {self.server} breaks the SSH protocol. Check its log."
        )


class _SshClient(asyncssh.SSHClient):
    """Decides whether a server is the one it should be; ``refused`` is what it showed if it is not."""

    def __init__(self, host_keys: HostKeys) -> None:
        self._host_keys = host_keys
        self.refused: str | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Compare the key with those that are pinned."""
        fingerprint = key.get_fingerprint()
        if fingerprint in self._host_keys.fingerprints:
            return True
        self.refused = f"{key.get_algorithm()} {fingerprint}"
        return False


def _kind(algorithm: str) -> str:
    return "ssh-rsa" if algorithm.startswith("rsa-") else algorithm


def _private_key(archive: str, credentials: Credentials, text: str | None) -> asyncssh.SSHKey | None:
    if text is None:
        return None
    try:
        return asyncssh.import_private_key(text + "\n")
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise SettingsInvalid(
            f"Archive/{archive}: `{credentials.name_of('privateKey')}` in {credentials.secret} "
            "is no private key without a passphrase."
        ) from error
