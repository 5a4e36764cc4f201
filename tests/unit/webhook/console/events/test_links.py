"""Links to archived files: https addresses only, and nothing that a browser reads in another way."""

import pytest

from webhook.console.events.links import MAX_LINK_LENGTH, document_link


@pytest.mark.parametrize(
    "location",
    [
        "https://dms.example.com/files/acme/contract%20%231.pdf",
        "https://dms.example.com:8443/remote.php/dav/contract.pdf?version=2",
    ],
)
def test_an_https_address_is_a_link(location: str) -> None:
    assert document_link(location) == location


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "file:///srv/acme/contract.pdf",
        "s3://contracts/acme/contract.pdf",
        "sftp://dms.example.com/contract.pdf",
        "http://dms.example.com/contract.pdf",
        "javascript:alert(1)",
        " javascript:alert(1)",
        "JavaScript://dms.example.com/%0aalert(1)",
        "data:text/html,<script>alert(1)</script>",
        "//evil.example/contract.pdf",
        "https:evil.example",
        "https:///contract.pdf",
        "https://dms.example.com@evil.example/contract.pdf",
        "https://jane:secret@dms.example.com/contract.pdf",
        "https://dms.example.com\\@evil.example/contract.pdf",
        "https://dms.example.com/a b.pdf",
        "https://dms.example.com/a\nb.pdf",
        "https://dms.example.com/\u202efdp.exe",
        "https://[::1/contract.pdf",
        "https://dms.example.com:99999/contract.pdf",
        "https://dms.example.com/" + "a" * MAX_LINK_LENGTH,
    ],
)
def test_everything_else_stays_text(location: str | None) -> None:
    assert document_link(location) is None
