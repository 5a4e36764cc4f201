"""
The trial's mail server: it accepts every mail, delivers none, and prints each one.
"""

import sys
from typing import Final, TextIO

from sandbox.servers.smtp import SmtpServer

PORT: Final = 1025
YEAR: Final = 365 * 86_400.0  # seconds


async def catch_mails(*, host: str = "", port: int = PORT, out: TextIO = sys.stdout) -> None:
    """Serve until cancelled. The connection is not encrypted: it stays in the namespace."""
    printed = 0
    async with SmtpServer(login=False, tls="none", host=host, port=port) as server:
        print(f"the mail catcher listens on port {server.port}", file=out, flush=True)
        while True:
            mails = await server.arrived(printed + 1, within=YEAR)
            for mail in mails[printed:]:
                print(
                    f"\nTo: {', '.join(mail.to)}\nSubject: {mail.subject}\n\n{mail.text}",
                    file=out,
                    flush=True,
                )
            printed = len(mails)
