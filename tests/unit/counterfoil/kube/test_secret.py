"""Secrets: what is read of one, and what is never shown."""

from counterfoil.kube.secret import Secret

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
