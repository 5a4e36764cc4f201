"""``url``: the callback URLs to paste into eSignAnyWhere, token included. Nowhere else is a token ever shown."""

import argparse
from typing import TextIO

import msgspec

from counterfoil.callbackauth import TokenRefused, token_hash
from counterfoil.cluster import Cluster, Forbidden, NotFound
from counterfoil.plugin.outcome import Ending, Stopped, as_json
from counterfoil.resources import Organization

SUMMARY = "print the callback URLs of an Organization, with the token"
DETAILS = (
    "The token is read from its Secret with your own rights; treat the URLs as the secret that they are. With several tokens "
    "(rotation) the first in spec.callback.tokenSecretRef counts, or the one that --token says."
)


class Urls(msgspec.Struct, frozen=True, rename="camel"):
    """What to paste where."""

    envelope: str
    status: str
    workstep: str
    basic_auth_secret: str | None
    """The Secret with the user name and password that eSAW has to send besides; None when there is no second lock."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("organization", metavar="ORG", help="name of the Organization")
    parser.add_argument(
        "--token",
        type=int,
        default=1,
        metavar="N",
        help="which of several tokens, counted from 1. Default: 1",
    )


async def run(chosen: argparse.Namespace, cluster: Cluster, out: TextIO) -> Ending:
    """Print them. Raises ``Stopped``, ``ApiProblem``."""
    organization = Organization.parse(await cluster.get(Organization, chosen.organization))
    token = await _token(cluster, organization, chosen.token)
    told = organization.status.callback_urls
    if told is None:
        raise Stopped(
            Ending.NOT_FOUND,
            f"Organization/{organization.name} has no URLs in its status yet; the controller writes them within seconds. "
            "Does it run?",
        )
    ref = organization.spec.callback.basic_auth_secret_ref
    urls = Urls(
        envelope=told.envelope.replace("<token>", token),
        status=told.status.replace("<token>", token),
        workstep=told.workstep.replace("<token>", token),
        basic_auth_secret=ref.name if ref is not None else None,
    )
    if chosen.output == "json":
        out.write(as_json(urls))
    else:
        out.write(f"finished envelopes (Callback URL):               {urls.envelope}\n")
        out.write(f"status changes (Status update callback URL):     {urls.status}\n")
        out.write(f"workstep events (Activity action callback URL):  {urls.workstep}\n")
        if ref is not None:
            out.write(f"besides, basic auth with username and password of Secret/{ref.name}\n")
    if "<your-host>" in urls.envelope:
        raise Stopped(
            Ending.NOT_ALL,
            "the host name is not known: put the receiver's own in place of <your-host>, or set COUNTERFOIL_CALLBACK_URL of the "
            "controller.",
        )
    if _hash(token) not in organization.status.callback_token_hashes:
        raise Stopped(
            Ending.NOT_ALL,
            "the receiver does not know this token yet. The controller tells it within 30 s; if it does not, "
            f"`kubectl describe org {organization.name}` says why.",
        )
    return Ending.DONE


async def _token(cluster: Cluster, organization: Organization, number: int) -> str:
    refs = organization.spec.callback.token_secret_ref
    if not 1 <= number <= len(refs):
        raise Stopped(
            Ending.NOT_FOUND,
            f"Organization/{organization.name} has {len(refs)} tokens in spec.callback.tokenSecretRef, so there is no number {number}.",
        )
    ref = refs[number - 1]
    try:
        data = await cluster.secret(ref.name)
    except NotFound:
        raise Stopped(
            Ending.NOT_FOUND, f"Secret/{ref.name} does not exist; it should have the callback token."
        ) from None
    except Forbidden:
        raise Stopped(
            Ending.NOT_ALLOWED,
            f"you may not read Secret/{ref.name}, which has the callback token. Ask somebody who may, or for the right "
            f"to get secrets named {ref.name} in namespace {cluster.namespace}.",
        ) from None
    if ref.key not in data:
        raise Stopped(Ending.NOT_FOUND, f"Secret/{ref.name} has no key {ref.key!r}.")
    return data[ref.key].decode("ascii", "replace").strip()


def _hash(token: str) -> str:
    try:
        return token_hash(token)
    except TokenRefused as weak:
        raise Stopped(Ending.NOT_ALL, f"the receiver will never take this token: {weak}.") from None
