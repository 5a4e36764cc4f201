"""Archives and layouts of a release have the right form, and depend on their contents only."""

import io
import json
import os
import tarfile
from pathlib import Path

from release import oci
from release.bill_of_materials import read_layout

METADATA = {"name": "counterfoil", "version": "1.2.3", "description": "Archives.", "apiVersion": "v2"}
CREATED = "2026-01-01T00:00:00Z"


def test_an_archive_is_the_same_with_any_time_and_order_of_its_files(tmp_path: Path) -> None:
    for folder, names in (("one", "ab"), ("other", "ba")):
        for name in names:
            (tmp_path / folder / "blobs").mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / "blobs" / name).write_text(name)
            os.utime(tmp_path / folder / "blobs" / name, (1, len(folder)))
        oci.write_archive(tmp_path / folder, tmp_path / f"{folder}.tar", 1_700_000_000)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert archive.getnames() == ["blobs", "blobs/a", "blobs/b"]


def test_a_package_with_other_dates_becomes_the_same(tmp_path: Path) -> None:
    packages = []
    for date in (1, 2):
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w:gz") as archive:
            entry = tarfile.TarInfo("counterfoil/Chart.yaml")
            entry.size, entry.mtime = 2, date
            archive.addfile(entry, io.BytesIO(b"{}"))
        packages.append(oci.repack(written.getvalue(), 1_700_000_000))
    assert packages[0] == packages[1]


def test_the_chart_is_stored_as_helm_stores_it(tmp_path: Path) -> None:
    oci.write_chart(tmp_path, b"chart", METADATA, CREATED)
    (entry,) = json.loads((tmp_path / "index.json").read_bytes())["manifests"]
    manifest = oci.read_json(tmp_path, entry)
    assert entry["annotations"][oci.REF] == "1.2.3"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.helm.config.v1+json"
    assert oci.read_json(tmp_path, manifest["config"]) == METADATA
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
    assert oci.blob(tmp_path, layer).read_bytes() == b"chart"
    assert json.loads((tmp_path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}


def test_an_image_in_a_layout_is_read_as_a_container_sees_it(tmp_path: Path) -> None:
    def put(content: bytes, media_type: str = oci.MANIFEST) -> oci.Descriptor:
        return oci._put(tmp_path, media_type, content)

    layers = [
        put(oci.pack({"etc/os-release": (0o644, b"ID=debian\n"), "bin/sh": (0o755, b"")}, 0)),
        put(oci.pack({"etc/.wh.os-release": (0o644, b""), "usr/lib/os-release": (0o644, b"ID=a\n")}, 0)),
    ]
    config = put(json.dumps({"config": {"Env": ["PYTHON_VERSION=3.13.7"]}}).encode())
    manifest = put(json.dumps({"config": config, "layers": layers}).encode())
    contents = read_layout(tmp_path, manifest)
    assert contents.files == {"usr/lib/os-release": b"ID=a\n"}
    assert contents.variables == {"PYTHON_VERSION": "3.13.7"}
