"""Languages: the one that a browser wants, as far as the catalogues have it."""

import pytest

from webhook.http_server.languages import negotiate_language


@pytest.mark.parametrize(
    ("wanted", "spoken"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr-FR,fr;q=0.9,it;q=0.8,en;q=0.7", "it"),
        ("en;q=0.5,it;q=0.9", "it"),
        ("DE_at", "en"),
        ("IT-ch", "it"),
        ("fr, *;q=0.1", "en"),
        ("de;q=0", "en"),
        ("de;q=nonsense, it", "it"),
        ("de;q=-1", "en"),
        ("de;q=inf", "en"),
        (",".join(["xx"] * 10_000) + ",de", "en"),
        ("\x00;;;,,;q=;=", "en"),
    ],
)
def test_the_browsers_first_wish_that_we_speak_is_spoken(wanted: str | None, spoken: str) -> None:
    assert negotiate_language(wanted) == spoken
