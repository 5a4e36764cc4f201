"""
Unit tests trust one authority, so that their HTTP clients have few certificates to read.

The collector of cyclic garbage runs less often, and does not search what the whole run needs. httpx searches
for no library that is not installed.
"""

import gc
from collections.abc import Iterator

import pytest

from counterfoil._upstream.sniffio_lookup import disable_sniffio_lookup
from sandbox.controlplane.certificates import CertificateAuthority, certificate_pem

disable_sniffio_lookup()


def pytest_collection_finish() -> None:
    """
    Spare the modules and the collected tests the search for cyclic garbage, and search less often.

    Each full search goes through all of them, and takes up to half a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


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
