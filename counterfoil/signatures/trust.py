"""
Trust: whether a certificate leads to one of the trust anchors, at the time when it signed.

Only what is in the file itself and the anchors count: nothing is fetched, and nobody is asked whether a
certificate was revoked. Runs in the examiners' processes only.
"""

from collections.abc import Coroutine, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from asn1crypto import x509  # type: ignore[import-untyped]  # asn1crypto ships no types
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.authority import CertTrustAnchor
from pyhanko_certvalidator.errors import (
    DisallowedAlgorithmError,
    ExpiredError,
    InvalidCertificateError,
    NotYetValidError,
)
from pyhanko_certvalidator.registry import SimpleTrustManager

SIGNING_USAGE = KeyUsageConstraints(key_usage={"digital_signature", "non_repudiation"})
"""Allowed purposes of a signer's certificate that names its purposes: one of them."""

TIME_STAMPING_USAGE = KeyUsageConstraints(extd_key_usage={"time_stamping"})

NO_CHAIN = "its certificate leads to none of the trust anchors"

_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (ExpiredError, "a certificate had expired when it signed"),
    (NotYetValidError, "a certificate was not yet valid when it signed"),
    (
        DisallowedAlgorithmError,
        "a certificate in the chain to a trust anchor is signed by too weak an algorithm",
    ),
)
"""Why none of the ways to an anchor is good; of several, the last one tells."""


class TrustStore:
    """The trust anchors, as an examiner was given them."""

    def __init__(self, certificates: Iterable[bytes]) -> None:
        """Take certificates in DER. Raises ``ValueError`` for others."""
        anchors = [x509.Certificate.load(each, strict=True) for each in certificates]
        self._anchor_hashes = {each.sha256 for each in anchors}
        self._authorities = SimpleTrustManager.build(
            [
                CertTrustAnchor(each, derive_default_quals_from_cert=True)
                for each in filter(_may_issue, anchors)
            ]
        )

    def fault(
        self,
        certificate: x509.Certificate,
        others: Iterable[x509.Certificate],
        at: datetime,
        usage: KeyUsageConstraints,
    ) -> str:
        """
        Return why a certificate is not trusted, in a sentence without a full stop; nothing when it is.

        ``others`` may lie between it and an anchor. Raises nothing: what can't be judged is not trusted.
        """
        try:
            if usage is not SIGNING_USAGE or certificate.key_usage_value is not None:
                usage.validate(certificate)
        except InvalidCertificateError:
            return "its certificate is for something else"
        if certificate.sha256 in self._anchor_hashes:
            return ""
        try:
            context = ValidationContext(
                trust_manager=self._authorities,
                other_certs=others,
                moment=at,
                allow_fetching=False,
                revocation_mode="soft-fail",
            )
            _run(CertificateValidator(certificate, validation_context=context).async_validate_path())
        except Exception as problem:
            # Untrusted certificates can make it raise any error.
            return next((says for kind, says in _FAULTS if isinstance(problem, kind)), NO_CHAIN)
        return ""


def _run(validation: Coroutine[Any, Any, object]) -> None:
    """Run it without an event loop: it waits for nothing, since nothing is fetched. Raises what it raises."""
    try:
        validation.send(None)
    except StopIteration:
        return
    validation.close()
    raise RuntimeError("the validation of a certificate waits for something")


def _may_issue(certificate: x509.Certificate) -> bool:
    """Whether it is an authority's. Those of the first version don't say; a certificate of no authority
    confirms only itself."""
    return bool(certificate.ca) or certificate["tbs_certificate"]["version"].native == "v1"


@lru_cache(maxsize=1)
def load_trust_store(encoded: bytes) -> TrustStore | None:
    """Read anchors as they are sent (``Anchors.encoded``); None when there are none. Raises
    ``ValueError``."""
    return TrustStore(msgspec.json.decode(encoded, type=tuple[bytes, ...])) if encoded else None
