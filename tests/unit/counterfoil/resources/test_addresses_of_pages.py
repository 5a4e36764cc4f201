"""The links to the pages of an Organization: its status chooses between two paths, and no others."""

import pytest
from msgspec.structs import replace

from counterfoil.resources import Organization, OrganizationStatus
from tests.support.builders import an_organization

OAUTH = {
    "clientID": "counterfoil",
    "clientSecretRef": {"name": "oauth", "key": "clientSecret"},
    "publicURL": "https://sign.acme.example",
}


def with_path(path: str | None) -> Organization:
    organization = an_organization(oauth=OAUTH)
    metadata = replace(organization.metadata, namespace="unit-a")
    return replace(organization, metadata=metadata, status=OrganizationStatus(address_path=path))


@pytest.mark.parametrize(("path", "segment"), [(None, "acme"), ("unit-a/acme", "unit-a/acme")])
def test_links_have_the_name_or_the_namespace_and_the_name(path: str | None, segment: str) -> None:
    assert with_path(path).consent_url("anna") == f"https://sign.acme.example/consent/{segment}/anna"


@pytest.mark.parametrize("path", ["unit-b/acme", "other", "unit-a/other", "../oauth", "x?to=", "x#"])
def test_a_status_leads_to_no_other_organization_and_no_other_page(path: str) -> None:
    assert with_path(path).consent_url("anna") == "https://sign.acme.example/consent/acme/anna"


@pytest.mark.parametrize("sender", ["../../oauth", "anna?to=https://evil.example", "a b", "", "anna\n"])
def test_what_is_no_name_of_a_sender_has_no_link(sender: str) -> None:
    assert with_path(None).consent_url(sender) is None
