"""
Files that another program can write into the folder of an envelope before Counterfoil archives it. Pure.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from verification.chaos.checker import HASHES, MANIFEST, SEAL, digest


class Source(NamedTuple):
    """The envelope that a planted manifest names, and where it comes from."""

    envelope: str
    organization: str
    namespace: str
    origin: str
    """Address of eSAW."""
    key_id: str
    """Id of the key that seals manifests; everybody can read it in a manifest."""


def planted_files(kind: str, source: Source, documents: Mapping[str, str], forged: bytes) -> dict[str, bytes]:
    """Return the planted files by their path in the archive; ``documents`` are the names of the envelope's
    documents by file id, and ``forged`` is the content of each. ``kind`` is one of
    ``verification.chaos.plan.PLANTED``."""
    folder = f"{source.organization}/{source.envelope}"
    if kind == "garbage":
        return {f"{folder}/{MANIFEST}": b'{"schema": "counterfoil.dev/man'}
    if kind == "extra":
        return {f"{folder}/Document/extra.pdf": forged}
    if kind == "other-source":
        source = source._replace(origin="https://other.example")
    is_sealed = kind == "sealed"
    manifest = _manifest(source, documents, forged, source.key_id if is_sealed else None)
    files = {f"Document/{name}": forged for name in documents.values()}
    files[MANIFEST] = json.dumps(manifest).encode()
    files[HASHES] = "".join(f"{digest(forged)}  Document/{name}\n" for name in documents.values()).encode()
    if is_sealed:
        files[SEAL] = hashlib.sha512(files[MANIFEST]).digest()
    return {f"{folder}/{name}": content for name, content in files.items()}


def _manifest(
    source: Source, documents: Mapping[str, str], forged: bytes, key_id: str | None
) -> dict[str, Any]:
    return {
        "schema": "counterfoil.dev/manifest/v1",
        "envelope": {
            "id": source.envelope,
            "name": "Contract",
            "status": "Completed",
            "organization": source.organization,
            "namespace": source.namespace,
            "origin": source.origin,
        },
        "sender": {"email": "eve@example.com", "userID": "eve", "name": "Eve"},
        "times": {"sent": "", "archived": "2026-01-01T00:00:00Z", "actions": []},
        "files": [
            {
                "name": f"Document/{name}",
                "kind": "Document",
                "fileID": file_id,
                "fileName": name,
                "contentType": "application/pdf",
                "size": len(forged),
                "sha256": digest(forged),
                "location": f"https://other.example/{name}",
                "documentNumber": number,
            }
            for number, (file_id, name) in enumerate(documents.items(), 1)
        ],
        "tags": {"approved": "yes"},
        "extra": {},
        "sealedBy": key_id,
    }
