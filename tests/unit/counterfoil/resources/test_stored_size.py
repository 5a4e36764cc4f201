"""The room that a list of files needs in etcd."""

import msgspec

from counterfoil.resources import FiledDocument, FileKind, stored_size
from counterfoil.resources.envelopeevent import Provisional


def test_a_list_with_hashes_needs_as_much_room_as_one_without() -> None:
    listed = FiledDocument(file_id="1", kind=FileKind.DOCUMENT, file_name="a.pdf", location="file:///a.pdf")
    filed = msgspec.structs.replace(
        listed, size=2**63 - 1, sha256="f" * 64, provisional=Provisional.NO_MANIFEST
    )
    assert stored_size([filed]) == stored_size([listed]) == len(msgspec.json.encode([filed]))
