"""``consent``: the link on which a sender gives a new key."""

import argparse
from typing import TextIO

import msgspec

from counterfoil.cluster import Cluster
from counterfoil.plugin.outcome import Ending, Stopped, as_json
from counterfoil.resources import Organization, Sender, condition

SUMMARY = "print the link on which a sender gives a new key"
DETAILS = "Send it to this sender and to nobody else; the page accepts only the user it is for."


class Link(msgspec.Struct, frozen=True, rename="camel"):
    """Where, for whom, and whether it is needed."""

    sender: str
    email: str | None
    authorized: str
    url: str


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("sender", metavar="SENDER", help="name of the Sender")


async def run(chosen: argparse.Namespace, cluster: Cluster, out: TextIO) -> Ending:
    """Print it. Raises ``Stopped``, ``ApiProblem``."""
    sender = Sender.parse(await cluster.get(Sender, chosen.sender))
    if sender.spec.token_secret_ref is not None:
        raise Stopped(
            Ending.NOT_FOUND,
            f"Sender/{sender.name} brings a key: put a new one into Secret/{sender.spec.token_secret_ref.name}, key "
            f"{sender.spec.token_secret_ref.key!r}. There is no consent to give.",
        )
    organization = Organization.parse(await cluster.get(Organization, sender.spec.organization_ref.name))
    url = organization.consent_url(sender.name)
    if url is None:
        raise Stopped(
            Ending.NOT_FOUND,
            f"Organization/{organization.name} has no spec.oauth.publicURL, so there is no page for consent.",
        )
    authorized = condition(sender.status.conditions, "Authorized")
    link = Link(
        sender.name, sender.spec.email, authorized.status if authorized is not None else "Unknown", url
    )
    out.write(as_json(link) if chosen.output == "json" else f"{url}\n")
    return Ending.DONE
