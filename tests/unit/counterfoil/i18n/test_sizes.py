"""Sizes for people."""

from counterfoil.i18n.sizes import readable_bytes


def test_numbers_of_bytes_can_be_read() -> None:
    assert [readable_bytes(count) for count in (None, 0, 1023, 1024, 5 * 1024**3)] == [
        "-",
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "5.0 GiB",
    ]
