"""Whether a signer's certificate leads to a trust anchor, at the time when it signed."""

from datetime import datetime, timedelta

import pytest
from asn1crypto import x509 as asn1_x509  # type: ignore[import-untyped]  # asn1crypto ships no types

from counterfoil.signatures.anchors import Anchors, AnchorsInvalid
from counterfoil.signatures.trust import NO_CHAIN, SIGNING_USAGE, TrustStore
from counterfoil.signatures.worker_pool import SignatureWorkers
from sandbox.esaw.core.documents import authority_certificate
from tests.support.fakes.archives import once
from tests.support.signed_pdfs import ALONE, ANNA, BETWEEN, EXPIRED, NOW, ROOT, Identity, signed


def fault(who: Identity, *anchors: Identity, others: tuple[Identity, ...] = (), at: datetime = NOW) -> str:
    loaded = [asn1_x509.Certificate.load(each.der) for each in (who, *others)]
    return TrustStore([each.der for each in anchors]).fault(loaded[0], loaded[1:], at, SIGNING_USAGE)


def test_a_signer_below_an_intermediate_authority_is_trusted() -> None:
    assert fault(ANNA, ROOT, others=(BETWEEN,)) == ""


def test_without_the_parts_between_it_leads_nowhere() -> None:
    assert fault(ANNA, ROOT) == NO_CHAIN


def test_another_authority_of_the_same_name_does_not_count() -> None:
    assert fault(ANNA, Identity("Root"), others=(BETWEEN,)) == NO_CHAIN


def test_a_self_signed_certificate_is_trusted_only_as_an_anchor() -> None:
    assert fault(ALONE, ROOT) == NO_CHAIN
    assert fault(ALONE, ALONE) == ""


def test_an_anchor_that_is_no_authority_confirms_no_other_certificate() -> None:
    assert fault(Identity("Child", ALONE, authority=False), ALONE) == NO_CHAIN


def test_a_certificate_counts_at_the_time_of_signing() -> None:
    assert fault(EXPIRED, ROOT) == "a certificate had expired when it signed"
    assert fault(EXPIRED, ROOT, at=NOW - timedelta(days=7)) == ""


@pytest.mark.parametrize("content", [{}, {"ca.pem": b""}, {"ca.pem": b"no certificate"}])
def test_a_secret_without_certificates_is_refused(content: dict[str, bytes]) -> None:
    with pytest.raises(AnchorsInvalid):
        Anchors.parse(content)


async def test_an_examiner_says_of_each_signature_whether_it_is_trusted() -> None:
    pdf = signed()
    real = SignatureWorkers()
    try:
        anchors = Anchors.parse({"ca.pem": authority_certificate().encode()})
        judged = await real.examine(once(pdf), len(pdf), anchors)
        plain = await real.examine(once(pdf), len(pdf))
    finally:
        await real.aclose()
    assert (judged.found[0].trusted, judged.found[0].distrust) == (False, NO_CHAIN)
    assert (plain.found[0].trusted, plain.found[0].distrust) == (None, "")
