"""
A real SFTP server on loopback: ``rclone serve sftp`` over a folder, with its own host key and login.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncssh

from sandbox.controlplane.folders import owned_folder
from sandbox.servers.rclone import RcloneServer, rclone_server

USERNAME = "counterfoil"


@dataclass(frozen=True)
class SftpServer:
    """A running server, the login that it takes, and its public host key as a line of OpenSSH."""

    rclone: RcloneServer
    username: str
    password: str
    private_key: str
    """In OpenSSH's format; the server takes it as well as the password."""
    host_key: str

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return self.rclone.port


@asynccontextmanager
async def sftp_server(*flags: str) -> AsyncIterator[SftpServer]:
    """Run a server over a temporary folder; ``flags`` are further ones of rclone's."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    login_key = asyncssh.generate_private_key("ssh-ed25519")
    password = secrets.token_hex(16)
    with owned_folder("counterfoil-sftp-keys-") as keys:
        host_key.write_private_key(keys / "host")
        login_key.write_public_key(keys / "authorized")
        login = (f"--user={USERNAME}", f"--pass={password}", f"--authorized-keys={keys / 'authorized'}")
        async with rclone_server("sftp", f"--key={keys / 'host'}", *login, *flags) as rclone:
            yield SftpServer(
                rclone,
                USERNAME,
                password,
                login_key.export_private_key().decode(),
                public_key_line(host_key),
            )


def public_key_line(key: asyncssh.SSHKey) -> str:
    """Return a public key as ``spec.sftp.hostKeys`` wants it."""
    return " ".join(key.export_public_key().decode().split()[:2])
