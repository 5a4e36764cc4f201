"""The callback URLs with the token: the status may only say at which address the receiver is."""

import argparse
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from counterfoil.callback_auth import token_hash
from counterfoil.cli.plugin import url
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.kube.errors import Forbidden
from counterfoil.resources import Organization
from counterfoil.resources.lease import Lease
from tests.support.builders import NOON, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import a_shard_lease

TOKEN = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
ADDRESS = "https://sign.acme.example"
OAUTH = {
    "clientID": "counterfoil",
    "clientSecretRef": {"name": "oauth", "key": "clientSecret"},
    "publicURL": ADDRESS,
}
QUERY = "?envelopeId=##EnvelopeId##&action=##Action##"


def a_client(
    envelope: str, *, address_path: str | None = None, oauth: dict[str, Any] | None = OAUTH, **urls: str
) -> InMemoryKubeClient:
    spec: dict[str, Any] = {"oauth": oauth} if oauth else {}
    kube = InMemoryKubeClient(an_organization(**spec))
    kube.put_secret("callback", "callback", {"token": TOKEN.encode()})
    status: dict[str, Any] = {
        "callbackURLs": {"envelope": envelope, "status": envelope, "workstep": envelope, **urls},
        "callbackTokenHashes": [token_hash(TOKEN, bytes(16))],
        "addressPath": address_path,
    }
    kube.edit(Organization, "acme", {"metadata": {"namespace": kube.namespace}, "status": status})
    return kube


async def printed(kube: InMemoryKubeClient) -> tuple[ExitStatus, dict[str, str]]:
    out = io.StringIO()
    args = argparse.Namespace(organization="acme", token=1, output="json")
    status = await url.run(args, kube, out)
    found: dict[str, str] = json.loads(out.getvalue())
    return status, found


async def test_the_urls_have_the_token_at_the_address_of_the_pages() -> None:
    status, urls = await printed(a_client(f"{ADDRESS}/callbacks/acme/<token>{QUERY}"))
    assert status is ExitStatus.DONE
    assert urls["envelope"] == urls["status"] == f"{ADDRESS}/callbacks/acme/{TOKEN}{QUERY}"
    assert urls["workstep"].startswith(
        f"{ADDRESS}/callbacks/acme/{TOKEN}?envelopeId=##EnvelopeId##&action=##E"
    )


async def test_in_a_further_namespace_they_name_it() -> None:
    at = f"{ADDRESS}/callbacks/tests/acme"
    _, urls = await printed(a_client(f"{at}/<token>{QUERY}", address_path="tests/acme"))
    assert urls["envelope"] == f"{at}/{TOKEN}{QUERY}"


async def test_in_a_namespace_that_is_not_served_none_is_printed_since_the_receiver_answers_404() -> None:
    kube, out = a_client(f"{ADDRESS}/callbacks/acme/<token>{QUERY}"), io.StringIO()
    kube.put(a_shard_lease(0, 1, renewed=datetime.now(UTC), served=["another"]))
    with pytest.raises(CommandError, match="NamespaceNotServed") as refused:
        await url.run(argparse.Namespace(organization="acme", token=1, output="text"), kube, out)
    assert refused.value.exit_status is ExitStatus.NOT_ALL
    assert out.getvalue() == ""


@pytest.mark.parametrize("served", [["tests"], None], ids=["served", "a controller of an earlier version"])
async def test_in_a_namespace_that_is_served_or_may_be_they_are_printed(served: Iterable[str] | None) -> None:
    kube = a_client(f"{ADDRESS}/callbacks/acme/<token>{QUERY}")
    kube.put(a_shard_lease(0, 1, renewed=datetime.now(UTC), served=served))
    assert (await printed(kube))[0] is ExitStatus.DONE


async def test_while_no_controller_works_they_are_printed_since_callbacks_are_recorded() -> None:
    kube = a_client(f"{ADDRESS}/callbacks/acme/<token>{QUERY}")
    kube.put(a_shard_lease(0, 1, renewed=NOON))
    assert (await printed(kube))[0] is ExitStatus.DONE


async def test_who_may_not_list_leases_gets_them() -> None:
    kube = a_client(f"{ADDRESS}/callbacks/acme/<token>{QUERY}")
    kube.refused["page", Lease.PLURAL] = Forbidden(403, "Forbidden", "leases is forbidden")
    assert (await printed(kube))[0] is ExitStatus.DONE


@pytest.mark.parametrize(
    "envelope",
    [
        "https://evil.example/?x=<token>",
        "https://evil.example/callbacks/acme/<token>@sign.acme.example/",
        "https://sign.acme.example@evil.example/callbacks/acme/<token>",
        "https://sign.acme.example/callbacks/unit-b/acme/<token>?",
        "https://sign.acme.example/callbacks/other/<token>?",
        "https://sign.acme.example/redirect?to=https://evil.example/callbacks/acme/<token>?",
        "https://sign.acme.example#/callbacks/acme/<token>?",
        "javascript:x/callbacks/acme/<token>?",
        "https://sign.acme.example x/callbacks/acme/<token>?",
        "https://evil.example/\x1b]52;c;aHR0cA\x07/callbacks/acme/<token>?",
        "https://evil.example/\u202e/callbacks/acme/<token>?",
    ],
)
@pytest.mark.parametrize("path", [None, "unit-b/acme", "other", "../x"])
async def test_the_token_is_in_no_other_url_that_a_status_names(envelope: str, path: str | None) -> None:
    out, kube = io.StringIO(), a_client(envelope, address_path=path)
    with pytest.raises(CommandError, match="not those that a controller writes") as refused:
        await url.run(argparse.Namespace(organization="acme", token=1, output="text"), kube, out)
    assert TOKEN not in out.getvalue() + str(refused.value)


async def test_only_the_address_of_the_receiver_is_taken_from_the_status() -> None:
    planted = "https://evil.example/<token>"
    envelope = f"{ADDRESS}/callbacks/acme/<token>?to=https://evil.example"
    _, urls = await printed(a_client(envelope, status=planted, workstep=planted))
    assert "evil" not in json.dumps(urls)
    assert urls["envelope"] == f"{ADDRESS}/callbacks/acme/{TOKEN}{QUERY}"


@pytest.mark.parametrize("oauth", [None, OAUTH], ids=["no address of pages", "another one of pages"])
async def test_an_address_that_only_the_status_names_is_printed(
    oauth: dict[str, Any] | None,
) -> None:
    kube = a_client(f"https://callbacks.acme.example/callbacks/acme/<token>{QUERY}", oauth=oauth)
    out = io.StringIO()
    args = argparse.Namespace(organization="acme", token=1, output="text")
    assert await url.run(args, kube, out) is ExitStatus.DONE
    *urls, last = out.getvalue().splitlines()
    assert last.split() == [
        *("compare", "the", "address", "with", "COUNTERFOIL_CALLBACK_URL:"),
        "https://callbacks.acme.example",
    ]
    assert [TOKEN in each for each in urls] == [True, True, True]


@pytest.mark.parametrize(
    ("address", "in_ascii"),
    [
        ("https://sign.\u0430cme.example/\u0430", "https://sign.xn--cme-5cd.example/%D0%B0"),
        ("https://b\u00fccher.example:443", "https://xn--bcher-kva.example:443"),
        (
            "http://b\u00fccher.example:8080/%7Ea;b=c/\u00fc",
            "http://xn--bcher-kva.example:8080/%7Ea;b=c/%C3%BC",
        ),
    ],
)
async def test_an_address_with_letters_of_another_alphabet_is_printed_as_it_is_and_in_ascii(
    address: str, in_ascii: str
) -> None:
    """People compare it with the setting; a letter of another alphabet may look like the expected one."""
    *_, compared, other = await lines(f"{address}/callbacks/acme/<token>{QUERY}")
    assert compared.endswith(f"COUNTERFOIL_CALLBACK_URL:     {address}")
    assert other.split(": ", 1)[0] == "the same address in ASCII"
    assert other.split()[-1] == in_ascii
    assert len(compared) - len(address) == len(other) - len(in_ascii)


async def test_an_address_in_ascii_is_printed_once() -> None:
    address = "https://sign.other.example:443/%7Ea"
    *_, last_url, compared = await lines(f"{address}/callbacks/acme/<token>{QUERY}")
    assert TOKEN in last_url
    assert compared.endswith(f"COUNTERFOIL_CALLBACK_URL:     {address}")


async def lines(envelope: str) -> list[str]:
    """Return what is printed for people about an Organization with this callback URL."""
    out = io.StringIO()
    await url.run(argparse.Namespace(organization="acme", token=1, output="text"), a_client(envelope), out)
    return out.getvalue().splitlines()
