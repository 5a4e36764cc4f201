"""The Secret of an archive: its keys may have other names, which messages then use."""

from collections.abc import Mapping

import pytest

from counterfoil import archives
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import SecretUnusable, SettingsInvalid
from counterfoil.i18n.commands import commands_in
from counterfoil.kube.secret import Placeholder, patch_command
from counterfoil.resources import Archive
from counterfoil.resources.archive_kinds import SETTINGS, CredentialsReference
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


@pytest.mark.parametrize(
    ("kind", "content"),
    [(kind, {**SECRETS[kind], name: b"NEW-PASSWORD\n"}) for kind in SECRET_KEYS for name in SECRETS[kind]],
)
async def test_a_placeholder_that_is_typed_as_it_is_is_no_value(
    kind: str, content: Mapping[str, bytes]
) -> None:
    with pytest.raises(SecretUnusable, match="NEW-PASSWORD is the placeholder of a command") as trouble:
        await archives.open_backend("dms", an_archive(kind, {}).spec, content)
    assert trouble.value.reason == "ArchiveSecretMissing"


@pytest.mark.parametrize("kind", SECRET_KEYS)
async def test_a_secret_with_the_keys_of_the_printed_command_opens_the_archive(kind: str) -> None:
    archive = an_archive(kind, {})
    names = archive.spec.settings.CREDENTIAL_KEYS
    assert names
    content = {name: SECRETS[kind][name] for name in names}
    backend = await archives.open_backend("dms", archive.spec, content)
    await backend.close()


@pytest.mark.parametrize("kind", SECRET_KEYS)
def test_each_key_of_the_printed_command_has_a_placeholder(kind: str) -> None:
    for each in SETTINGS[kind].CREDENTIAL_KEYS:
        assert each in SECRET_KEYS[kind]
        assert Placeholder.of_key(each) is not None


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        *(("s3", each) for each in ("accessKeyId", "secretAccessKey")),
        *(("azblob", each) for each in ("accountName", "accountKey")),
        ("gcs", "serviceAccountJson"),
        *(("sftp", each) for each in ("username", "password")),
        *((kind, each) for kind in ("webdav", "cmis") for each in ("username", "password")),
    ],
)
async def test_the_message_about_a_missing_key_has_the_command_that_adds_it(kind: str, missing: str) -> None:
    archive = an_archive(kind, {missing: "OTHER"})
    content = {name: SECRETS[kind][name] for name in archive.spec.settings.CREDENTIAL_KEYS if name != missing}
    with pytest.raises(SettingsInvalid) as trouble:
        await archives.open_backend("dms", archive.spec, content)
    placeholder = Placeholder.of_key(missing)
    assert placeholder is not None
    patch = patch_command("s", "OTHER", placeholder)
    assert f"(type `{patch}`)" in str(trouble.value)
    assert len(commands_in(str(trouble.value), trouble.value.reason, "tests")) == 1
