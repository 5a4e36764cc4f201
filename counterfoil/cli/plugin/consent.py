"""``consent``: the link on which a sender gives a new key."""

import argparse
from typing import TextIO

import msgspec

from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_json
from counterfoil.kube.client import KubeClient
from counterfoil.resources import Organization, Sender, find_condition

SUMMARY = "print the link on which a sender gives a new key"
DETAILS = "Send it to this sender and to nobody else; the page accepts only the user it is for."


class ConsentLinkOutput(msgspec.Struct, frozen=True, rename="camel"):
    """The link, its sender, and the status of the sender's key."""

    sender: str
    email: str | None
    authorized: str
    url: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("sender", metavar="SENDER", help="name of the Sender")


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Print it. Raises ``CommandError``, ``ApiError``."""
    sender = Sender.parse(await kube.get(Sender, args.sender))
    if sender.spec.token_secret_ref is not None:
        raise CommandError(
            ExitStatus.NOT_FOUND,
            f"Sender/{sender.name} brings a key: put a new one into "
            f"Secret/{sender.spec.token_secret_ref.name}, key {sender.spec.token_secret_ref.key!r}. There "
            "is no consent to give.",
        )
    organization = Organization.parse(await kube.get(Organization, sender.spec.organization_ref.name))
    url = organization.consent_url(sender.name)
    if url is None:
        raise CommandError(
            ExitStatus.NOT_FOUND,
            f"Organization/{organization.name} has no spec.oauth.publicURL, so there is no page for consent.",
        )
    authorized = find_condition(sender.status.conditions, "Authorized")
    link = ConsentLinkOutput(
        sender.name, sender.spec.email, authorized.status if authorized is not None else "Unknown", url
    )
    out.write(format_json(link) if args.output == "json" else f"{url}\n")
    return ExitStatus.DONE
