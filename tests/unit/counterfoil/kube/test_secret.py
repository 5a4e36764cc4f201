"""Secrets: what is read of one, and what is never shown."""

import pytest

from counterfoil.kube.secret import FOREIGN_TYPES, USE_LABEL, Secret, SecretUse
from counterfoil.origin import ORIGIN_ANNOTATION, origin_of
from counterfoil.resources.base import ObjectMeta
from counterfoil.sealing import SECRET_TYPE

RAW = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "callback",
        "resourceVersion": "7",
        "labels": {"team": "contracts"},
        "annotations": {"note": "made by hand"},
    },
    "type": "example.com/kind",
    "data": {"token": "AGdlaGVpbQ==", "empty": ""},
}


def test_a_secret_has_its_type_labels_annotations_and_decoded_data() -> None:
    secret = Secret.parse(RAW)
    assert (secret.name, secret.type, secret.resource_version) == ("callback", "example.com/kind", "7")
    assert secret.labels == {"team": "contracts"}
    assert secret.annotations == {"note": "made by hand"}
    assert secret.data == {"token": b"\x00geheim", "empty": b""}


def test_a_secret_without_data_is_an_empty_one() -> None:
    secret = Secret.parse({"metadata": {"name": "nothing"}})
    assert (secret.data, secret.labels, secret.annotations) == ({}, {}, {})


def test_no_text_of_a_secret_shows_a_value() -> None:
    secret = Secret.parse(RAW)
    for text in (repr(secret), str(secret), f"{secret}", f"{[secret]}"):
        assert "geheim" not in text
        assert "AGdl" not in text
        assert "callback" in text


def a_secret(use: str | None = None, *, type_: str = "Opaque") -> Secret:
    labels = {} if use is None else {USE_LABEL: use}
    metadata = ObjectMeta(name="one", labels=labels)
    return Secret(metadata=metadata, type=type_, data={"0-generated": b"value"})


@pytest.mark.parametrize("use", SecretUse)
@pytest.mark.parametrize("type_", ["Opaque", "kubernetes.io/basic-auth", "kubernetes.io/tls"])
def test_a_secret_with_the_label_of_a_use_may_be_used_for_it_with_any_type(
    use: SecretUse, type_: str
) -> None:
    assert a_secret(use, type_=type_).use_fault(use) is None


@pytest.mark.parametrize("label", [None, "", "sealing", "OAUTH", "oauth,token", "true", "archive"])
def test_a_secret_with_another_label_is_refused_with_the_command_that_labels_it(
    label: str | None,
) -> None:
    fault = a_secret(label).use_fault(SecretUse.OAUTH)
    assert fault == (
        "Secret/one does not have the label counterfoil.dev/use=oauth, so it is not read. If it was made for "
        "this use, type `kubectl label secret one counterfoil.dev/use=oauth`."
    )


@pytest.mark.parametrize("use", SecretUse)
@pytest.mark.parametrize("type_", sorted(FOREIGN_TYPES))
def test_no_label_makes_the_secret_of_a_program_readable(use: SecretUse, type_: str) -> None:
    fault = a_secret(use, type_=type_).use_fault(use)
    assert fault is not None
    assert "never read" in fault
    assert "0-generated" not in fault


def test_the_secrets_that_counterfoil_seals_are_a_programs() -> None:
    assert SECRET_TYPE in FOREIGN_TYPES


def test_an_annotation_that_is_no_origin_equals_none_and_begins_no_command_in_a_message() -> None:
    annotations = {ORIGIN_ANNOTATION: "`kubectl delete archive dms`"}
    secret = Secret(metadata=ObjectMeta(name="dms-key", annotations=annotations))
    assert secret.origin == "'kubectl delete archive dms'"
    with pytest.raises(ValueError, match="scheme, host and port"):
        origin_of(secret.origin)
