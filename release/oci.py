"""
OCI layouts (image-spec 1.1): of images, as buildah writes them, and of the chart, as ``helm push`` stores it.

An archive is the layout as a tar file whose bytes depend on its contents only.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
REF = "org.opencontainers.image.ref.name"

Descriptor = dict[str, Any]


def blob(layout: Path, descriptor: Mapping[str, Any]) -> Path:
    """Return the file of a descriptor."""
    algorithm, _, digest = str(descriptor["digest"]).partition(":")
    return layout / "blobs" / algorithm / digest


def read_json(layout: Path, descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """Return a blob that is JSON."""
    content: dict[str, Any] = json.loads(blob(layout, descriptor).read_bytes())
    return content


def images(layout: Path) -> dict[str, Descriptor]:
    """Return the manifests of a layout with one multi-architecture image, by architecture."""
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    return {each["platform"]["architecture"]: each for each in read_json(layout, entry)["manifests"]}


def index_digest(layout: Path) -> str:
    """Return the digest by which the whole layout is pulled from a registry."""
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    return str(entry["digest"])


def write_chart(layout: Path, package: bytes, metadata: Mapping[str, Any], created: str) -> None:
    """Write the layout of a packed chart. ``metadata`` is its Chart.yaml, ``created`` a date of RFC 3339."""
    config = _put(layout, HELM_CONFIG, json.dumps(metadata, sort_keys=True).encode())
    content = _put(layout, HELM_CHART, package)
    annotations = {
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.description": metadata["description"],
        "org.opencontainers.image.title": metadata["name"],
        "org.opencontainers.image.version": metadata["version"],
    }
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [content]}
    entry = _put(layout, MANIFEST, json.dumps({**manifest, "annotations": annotations}).encode())
    entry["annotations"] = {REF: metadata["version"]}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    (layout / "index.json").write_text(json.dumps(index), encoding="utf-8")
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")


def _put(layout: Path, media_type: str, content: bytes) -> Descriptor:
    descriptor = {
        "mediaType": media_type,
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "size": len(content),
    }
    path = blob(layout, descriptor)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return descriptor


def write_archive(folder: Path, archive: Path, epoch: int) -> None:
    """Write a folder as a tar file: sorted, and with one date for everything."""
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            entry = _entry(str(path.relative_to(folder)), epoch)
            if path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            else:
                entry.size = path.stat().st_size
                with path.open("rb") as content:
                    tar.addfile(entry, content)


def pack(files: Mapping[str, tuple[int, bytes]], epoch: int) -> bytes:
    """Return files (mode and content by name) as a .tar.gz whose bytes depend on nothing else."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, (mode, content) in files.items():
            entry = _entry(name, epoch)
            entry.mode, entry.size = mode, len(content)
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=epoch)


def repack(package: bytes, epoch: int) -> bytes:
    """Return a .tar.gz with the same files in the same order, and one date for everything."""
    with tarfile.open(fileobj=io.BytesIO(package)) as tar:
        files = {
            each.name: (0o644, content.read())
            for each in tar
            if (content := tar.extractfile(each)) is not None
        }
    return pack(files, epoch)


def _entry(name: str, epoch: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mtime, entry.mode = epoch, 0o644
    return entry
