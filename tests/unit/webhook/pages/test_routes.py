"""The paths of the pages: with the namespace in front, or without it for the release's own."""

import pytest

from webhook.pages.routes import NO_ROUTE, PageName, match_route


@pytest.mark.parametrize(
    ("path", "page", "namespace", "sender"),
    [
        ("/before-send/acme", PageName.BEFORE_SEND, "", ""),
        ("/before-send/unit-a/acme", PageName.BEFORE_SEND, "unit-a", ""),
        ("/before-send/acme/tags", PageName.FORM, "", ""),
        ("/before-send/unit-a/acme/tags", PageName.FORM, "unit-a", ""),
        ("/consent/acme/anna", PageName.CONSENT, "", "anna"),
        ("/consent/unit-a/acme/anna", PageName.CONSENT, "unit-a", "anna"),
        ("/consent/acme/anna/done", PageName.THANKS, "", "anna"),
        ("/consent/unit-a/acme/anna/done", PageName.THANKS, "unit-a", "anna"),
        ("/oauth/acme/return", PageName.RETURN, "", ""),
        ("/oauth/unit-a/acme/return", PageName.RETURN, "unit-a", ""),
    ],
)
def test_a_path_leads_to_a_page_of_an_organization_of_a_namespace(
    path: str, page: PageName, namespace: str, sender: str
) -> None:
    found = match_route(path)

    assert (found.page, found.namespace, found.organization, found.sender) == (
        page,
        namespace,
        "acme",
        sender,
    )


@pytest.mark.parametrize(
    "path",
    [
        "/before-send",
        "/before-send/",
        "/before-send//acme",
        "/before-send/Unit/acme",
        "/before-send/unit.a/acme",
        "/before-send/a/b/c/d",
        "/before-send/../acme",
        "/before-send/..%2Funit-a/acme",
        "/before-send/unit-a/acme/other",
        "/consent/acme",
        "/consent/unit-a/acme/anna/done/done",
        "/consent/unit-a/acme/ANNA",
        "/oauth/unit-a/acme",
        "/oauth/unit-a/acme/return/return",
    ],
)
def test_any_other_path_leads_nowhere(path: str) -> None:
    assert match_route(path) is NO_ROUTE


@pytest.mark.parametrize(
    ("path", "page", "organization", "sender"),
    [
        ("/before-send/unit-a/tags", PageName.BEFORE_SEND, "tags", ""),
        ("/consent/unit-a/acme/done", PageName.CONSENT, "acme", "done"),
    ],
)
def test_a_path_with_two_readings_keeps_the_one_with_a_namespace(
    path: str, page: PageName, organization: str, sender: str
) -> None:
    found = match_route(path)
    assert (found.namespace, found.organization) == ("", "unit-a")

    other = found.otherwise
    assert other is not None
    assert (other.page, other.namespace, other.organization, other.sender) == (
        page,
        "unit-a",
        organization,
        sender,
    )


@pytest.mark.parametrize(
    "path", ["/before-send/acme", "/before-send/unit-a/acme", "/oauth/acme/return", "/consent/acme/done"]
)
def test_any_other_path_has_one_reading(path: str) -> None:
    assert match_route(path).otherwise is None
