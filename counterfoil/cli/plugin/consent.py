"""``consent``: the link on which a sender gives a new key."""

import argparse
from typing import TextIO

import msgspec
from msgspec.structs import replace

from counterfoil.cli.plugin import selection
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_result, printable
from counterfoil.cli.plugin.send_request import make_request, wait_for_answer
from counterfoil.i18n.key_advice import consent_link, key_advice
from counterfoil.i18n.problems import key_failure
from counterfoil.kube.client import KubeClient
from counterfoil.resources import Organization, RequestOutcome, Sender, find_condition

SUMMARY = "print the link on which a sender gives a new key"
DETAILS = (
    "Send it to this sender and to nobody else; the page accepts only the user it is for. With --mail "
    "Counterfoil sends it, by the label counterfoil.dev/request=ask."
)


class ConsentLinkOutput(msgspec.Struct, frozen=True, rename="camel"):
    """The link, its sender, and the status of the sender's key."""

    sender: str
    email: str | None
    authorized: str
    url: str
    mail: str | None = None
    """The controller's answer to the request for a mail."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "sender", type=selection.object_name(Sender), metavar="SENDER", help="name of the Sender"
    )
    parser.add_argument(
        "--mail", action="store_true", help="also request the mail with the link to the sender"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="of --mail: how long to wait for the controller's answer. Default: 60",
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Print it. Raises ``CommandError``, ``ApiError``."""
    sender = Sender.parse(await kube.get(Sender, args.sender))
    organization: Organization | None = None
    if sender.spec.token_secret_ref is None:
        organization = Organization.parse(await kube.get(Organization, sender.spec.organization_ref.name))
    url = consent_link(sender, organization)
    if not url:
        refused = key_failure(sender)
        advice = key_advice(sender, organization, refused.reason if refused is not None else "TokenRejected")
        command = advice.command_line(kube.namespace)
        raise CommandError(ExitStatus.NOT_FOUND, f"{advice.text()} Command: {command}")
    authorized = find_condition(sender.status.conditions, "Authorized")
    status = ExitStatus.DONE
    link = ConsentLinkOutput(
        sender.name, sender.spec.email, authorized.status if authorized is not None else "Unknown", url
    )
    if args.mail:
        id_ = await make_request(kube, Sender, sender.name, "ask")
        _, last = await wait_for_answer(kube, Sender, sender.name, id_, args.timeout, known=organization)
        link = replace(link, mail=last.message)
        status = ExitStatus.DONE if last.outcome is RequestOutcome.DONE else ExitStatus.NOT_ALL
    lines = (each for each in (url, link.mail) if each is not None)
    out.write(format_result(args.output, link, "".join(f"{printable(line)}\n" for line in lines)))
    return status
