"""
The TLS handshake with servers that nobody trusts: it takes a bounded time of the event loop.

Under TLS 1.2 a server chooses the group of a Diffie-Hellman exchange in a finite field. OpenSSL computes in a
group of 10,000 bits for a second, in one step of the loop. Curves, and the groups of TLS 1.3, are fixed.
"""

import ssl

_LEFT_OUT = ("DHE-", "TLS_")
"""Ciphers with such a group, and those of TLS 1.3, which ``set_ciphers`` does not affect."""


def without_finite_fields(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let the context of a client offer no exchange whose group the server chooses; return it."""
    names = [each["name"] for each in context.get_ciphers()]
    context.set_ciphers(":".join(name for name in names if not name.startswith(_LEFT_OUT)))
    return context
