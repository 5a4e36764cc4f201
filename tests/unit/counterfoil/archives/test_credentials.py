"""The Secret of an archive: its keys may have other names, which messages then use."""

from collections.abc import Mapping

import pytest

from counterfoil import archives
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import SettingsInvalid
from counterfoil.resources import Archive
from counterfoil.resources.archive_kinds import CredentialsReference
from tests.support.archive_servers import SECRETS
from tests.support.crd_cases import SECRET_KEYS, built, keys


def an_archive(kind: str, names: Mapping[str, str]) -> Archive:
    """Return an Archive whose Secret has other names for its keys."""
    raw = built(Archive, keys(kind, names))
    if kind == "sftp":
        raw["spec"]["sftp"]["hostKeys"] = [f"SHA256:{'A' * 43}"]
    return Archive.parse(raw)


@pytest.mark.parametrize("kind", SECRET_KEYS)
async def test_a_secret_may_have_other_names(kind: str) -> None:
    names = {name: f"OTHER_{name}" for name in SECRETS[kind]}
    content = {names[name]: value for name, value in SECRETS[kind].items()}
    backend = await archives.open_backend("dms", an_archive(kind, names).spec, content)
    await backend.close()


async def test_a_missing_key_is_named_as_the_secret_should_have_it() -> None:
    archive = an_archive("s3", {"accessKeyId": "AWS_ACCESS_KEY_ID"})
    with pytest.raises(SettingsInvalid, match="`AWS_ACCESS_KEY_ID`"):
        await archives.open_backend("dms", archive.spec, SECRETS["s3"])


async def test_only_the_name_that_the_archive_gives_counts() -> None:
    """The Secret of a bucket claim may have another key under the usual name."""
    ref = CredentialsReference(name="claim", keys={"username": "USER"})
    credentials = Credentials("dms", ref, {"username": b"other", "USER": b"jane"})
    assert credentials.line("username") == "jane"
    assert credentials.has_any(("username",))
    assert not Credentials("dms", ref, {"username": b"other"}).has_any(("username",))
