"""The target of an Archive: where files go, for each kind, and nothing that is secret."""

import msgspec
import pytest

from counterfoil.i18n.catalogue import LANGUAGES, CatalogueName, load_catalogue
from counterfoil.resources import Archive, ArchiveSpec
from counterfoil.resources.archive_kinds import EXAMPLES, KINDS, TARGET_FIELDS
from counterfoil.resources.base import ObjectMeta
from webhook.console.objects.archives import kind_of, target_of


def an_archive(kind: str, **more: object) -> Archive:
    spec = msgspec.convert({kind: {**EXAMPLES[kind], **more}}, ArchiveSpec)
    return Archive(metadata=ObjectMeta(name="dms"), spec=spec)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_shows_its_target_in_words(kind: str) -> None:
    target = dict(target_of(an_archive(kind)))
    expected = {name: EXAMPLES[kind][name] for name in TARGET_FIELDS if name in EXAMPLES[kind]}
    assert {name: target.get(name) for name in expected if name != "kind"} == {
        name: value for name, value in expected.items() if name != "kind"
    }
    for language in LANGUAGES:
        words = load_catalogue(CatalogueName.CONSOLE, language)
        assert words.has("archive_kind", kind)
        assert [name for name in target if not words.has("target", name)] == []


def test_a_bucket_shows_its_server_and_prefix_and_not_its_secret() -> None:
    archive = an_archive(
        "s3",
        prefix="esaw/",
        endpoint="https://minio.acme.example:9000",
        credentialsSecretRef={"name": "the-secret"},
    )
    assert target_of(archive) == (
        ("bucket", "contracts"),
        ("prefix", "esaw/"),
        ("endpoint", "https://minio.acme.example:9000"),
    )


def test_the_settings_of_a_kind_of_somebody_else_are_not_shown() -> None:
    archive = an_archive("custom", settings={"password": "hunter2", "url": "https://user:hunter2@x"})
    assert "hunter2" not in str(target_of(archive))


def test_an_object_without_a_kind_has_no_target() -> None:
    archive = Archive(metadata=ObjectMeta(name="dms"), spec=ArchiveSpec())
    assert (kind_of(archive), target_of(archive)) == ("", ())
