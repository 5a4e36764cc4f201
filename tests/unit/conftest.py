"""Unit tests trust one authority, so that their HTTP clients have few certificates to read."""

from collections.abc import Iterator

import pytest

from sandbox.controlplane.certificates import CertificateAuthority, certificate_pem


@pytest.fixture(scope="session", autouse=True)
def one_trusted_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """
    Trust one authority in place of the public ones.

    Every new HTTP client reads all certificates that it trusts. For the public authorities this takes 25 ms
    of CPU. Unit tests only connect to servers that they start, and tests of TLS bring a certificate.
    """
    file = tmp_path_factory.mktemp("trust") / "authority.pem"
    file.write_bytes(certificate_pem(CertificateAuthority("unit tests").certificate))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(file))
        yield
