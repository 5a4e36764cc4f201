"""
``url``: the callback URLs to paste into eSignAnyWhere, token included. Nowhere else is a token ever shown.
"""

import argparse
import string
from typing import TextIO
from urllib.parse import quote, urlsplit

import msgspec

from counterfoil.callback_auth import CallbackSecretInvalid, callback_token, is_valid_token
from counterfoil.cli.plugin import selection
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_answer, is_for_programs
from counterfoil.cli.plugin.send_request import absence_text, find_absences
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden, NotFound
from counterfoil.kube.secret import SecretUse
from counterfoil.origin import DEFAULT_PORTS, origin_of
from counterfoil.resources import Organization
from counterfoil.resources.lease import NamespaceNotServed
from counterfoil.resources.organization import UNKNOWN_ADDRESS, CallbackURLs
from counterfoil.settings import receiver_address_fault

SUMMARY = "print the callback URLs of an Organization, with the token"
DETAILS = (
    "The token is read from its Secret with your own rights; treat the URLs as the secret that they are. "
    "With several tokens (rotation) the first in spec.callback.tokenSecretRefs counts, or the one that "
    "--token says. Append your own parameters to a URL, as in &orderNo=4711; the values of those that "
    "spec.callback.parameters lists go into the archive."
)


class CallbackUrlsOutput(msgspec.Struct, frozen=True, rename="camel"):
    """The URLs and their fields in eSAW."""

    envelope: str
    status: str
    workstep: str
    basic_auth_secret: str | None
    """The Secret with the user name and password that eSAW must send too; None without basic auth."""
    parameters: tuple[str, ...]
    """Names of own parameters that may be appended to a URL."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "organization",
        type=selection.object_name(Organization),
        metavar="ORG",
        help="name of the Organization",
    )
    parser.add_argument(
        "--token",
        type=int,
        default=1,
        metavar="N",
        help="which of several tokens, counted from 1. Default: 1",
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Print them. Raises ``CommandError``, ``ApiError``."""
    organization = Organization.parse(await kube.get(Organization, args.organization))
    await _check_served(kube, organization)
    token = await _token(kube, organization, args.token)
    address = _receiver_address(organization)
    template = CallbackURLs.at(address, organization.address_path)
    ref = organization.spec.callback.basic_auth_secret_ref
    urls = CallbackUrlsOutput(
        envelope=template.envelope.replace("<token>", token),
        status=template.status.replace("<token>", token),
        workstep=template.workstep.replace("<token>", token),
        basic_auth_secret=ref.name if ref is not None else None,
        parameters=organization.spec.callback.parameters,
    )
    if is_for_programs(args.output):
        out.write(format_answer(args.output, urls))
    else:
        out.write(f"finished envelopes (Callback URL):               {urls.envelope}\n")
        out.write(f"status changes (Status update callback URL):     {urls.status}\n")
        out.write(f"workstep events (Activity action callback URL):  {urls.workstep}\n")
        if urls.parameters:
            appended = "".join(f"&{name}=..." for name in urls.parameters)
            out.write(f"own parameters, which you may append:            {appended}\n")
        if ref is not None:
            out.write(f"also required: basic auth with username and password of Secret/{ref.name}\n")
        if address not in (UNKNOWN_ADDRESS, _address_of_pages(organization)):
            # Who may write the status may name the address of others, which would get the token.
            out.write(f"compare the address with COUNTERFOIL_CALLBACK_URL:     {address}\n")
            if not address.isascii():
                # A letter of another alphabet may look like the expected one.
                out.write(f"the same address in ASCII:                             {_ascii(address)}\n")
    if address == UNKNOWN_ADDRESS:
        raise CommandError(
            ExitStatus.NOT_ALL,
            "the host name is not known: put the receiver's own in place of <your-host>, or set "
            "COUNTERFOIL_CALLBACK_URL of the controller.",
        )
    if not is_valid_token(_accepted(token), organization.status.callback_token_hashes):
        raise CommandError(
            ExitStatus.NOT_ALL,
            "the receiver does not know this token yet. The controller tells it within 30 s; if it does not, "
            f"`kubectl describe org {organization.name}` says why.",
        )
    return ExitStatus.DONE


async def _check_served(kube: KubeClient, organization: Organization) -> None:
    """Raise ``CommandError`` in a namespace whose callbacks the receiver answers with 404. Nothing is said if
    that is unknown."""
    absence = (await find_absences(kube, (organization,))).get(organization.name)
    if isinstance(absence, NamespaceNotServed):
        words = absence_text(absence, "its URLs are printed and its callbacks recorded")
        raise CommandError(ExitStatus.NOT_ALL, words)


def _ascii(address: str) -> str:
    """Return an address with each letter in ASCII, and all else as it is."""
    parts, origin = urlsplit(address), origin_of(address)
    if parts.port == DEFAULT_PORTS[parts.scheme]:
        origin += f":{parts.port}"
    return origin + quote(parts.path, safe=string.punctuation)


def _receiver_address(organization: Organization) -> str:
    """Return the address of the receiver. Nothing else of the URLs in the status is believed, since the token
    is put into them. Raises ``CommandError``."""
    urls = organization.status.callback_urls
    if urls is None:
        raise CommandError(
            ExitStatus.NOT_FOUND,
            f"Organization/{organization.name} has no URLs in its status yet; the controller writes them "
            "within seconds. Does it run?",
        )
    address, found, _ = urls.envelope.partition(f"/callbacks/{organization.address_path}/<token>?")
    is_address = address == UNKNOWN_ADDRESS or receiver_address_fault(address) is None
    if not found or not is_address or not address.isprintable():
        raise CommandError(
            ExitStatus.NOT_ALL,
            f"the URLs in the status of Organization/{organization.name} are not those that a controller "
            "writes. It corrects them within a minute. If they stay, see who may write the status.",
        )
    return address


def _address_of_pages(organization: Organization) -> str | None:
    oauth = organization.spec.oauth
    return oauth.public_url.rstrip("/") if oauth is not None and oauth.public_url is not None else None


async def _token(kube: KubeClient, organization: Organization, number: int) -> str:
    refs = organization.spec.callback.token_secret_refs
    if not 1 <= number <= len(refs):
        raise CommandError(
            ExitStatus.NOT_FOUND,
            f"Organization/{organization.name} has {len(refs)} tokens in spec.callback.tokenSecretRefs, so "
            f"there is no number {number}.",
        )
    ref = refs[number - 1]
    try:
        secret = await kube.secret(ref.name)
    except NotFound:
        raise CommandError(
            ExitStatus.NOT_FOUND, f"Secret/{ref.name} does not exist; it should have the callback token."
        ) from None
    except Forbidden:
        raise CommandError(
            ExitStatus.NOT_ALLOWED,
            f"you may not read Secret/{ref.name}, which has the callback token. Ask somebody who may, or for "
            f"the right to get secrets named {ref.name} in namespace {kube.namespace}.",
        ) from None
    if (fault := secret.use_fault(SecretUse.CALLBACK)) is not None:
        # The author of the spec may lack the right to read this Secret; users paste the URL elsewhere.
        raise CommandError(ExitStatus.NOT_ALL, fault)
    if ref.key not in secret.data:
        raise CommandError(ExitStatus.NOT_FOUND, f"Secret/{ref.name} has no key {ref.key!r}.")
    return secret.data[ref.key].decode("ascii", "replace").strip()


def _accepted(token: str) -> str:
    try:
        return callback_token(token)
    except CallbackSecretInvalid as weak:
        raise CommandError(ExitStatus.NOT_ALL, f"the receiver will never take this token: {weak}.") from None
