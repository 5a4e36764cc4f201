"""The bill of materials lists what is in the layers of an image, and nothing that a later layer removed."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from release.bill_of_materials import (
    ImageContents,
    NotLocked,
    bill_of_materials,
    check_locked,
    is_complete,
    read_image,
)

SITE = "opt/counterfoil/lib/python3.13/site-packages"
STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12
Description: library
 Package: not a field, but a continued line

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2026a-1+deb13u1
"""
APK = "P:musl\nV:1.2.5-r9\nA:x86_64\nL:MIT\n\nP:zlib\nV:1.3-r0\nA:x86_64\nL:Zlib\n"
OS_RELEASE = 'ID=debian\nVERSION_ID="13"\n# a comment=1\n'
HTMX = b"var htmx=1"
BASE = {
    "var/lib/dpkg/status": STATUS,
    "usr/lib/os-release": OS_RELEASE,
    "usr/local/lib/python3.13/site-packages/pip-26.2.dist-info/METADATA": "Name: pip\nVersion: 26.2\n",
}
OURS = {
    f"{SITE}/counterfoil-0.1.0.dist-info/METADATA": "Name: counterfoil\nVersion: 0.1.0\n",
    f"{SITE}/msgspec-0.22.0.dist-info/METADATA": (
        "Name: msgspec\nVersion: 0.22.0\nLicense-Expression: BSD-3-Clause\n"
    ),
    f"{SITE}/jaraco.functools-4.0.dist-info/METADATA": (
        "Name: Jaraco.Functools\nVersion: 4.0\n"
        "Classifier: License :: OSI Approved :: MIT License\n\nName: body\n"
    ),
    f"{SITE}/webhook/console/static/htmx-2.0.11.min.js": HTMX.decode(),
    f"{SITE}/webhook/console/static/other.js": "1",
}
LOCK = "msgspec==0.22.0 \\\n    --hash=sha256:00\njaraco-functools==4.0 ; python_version > '3'\n"


def tar(files: Mapping[str, str | bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return written.getvalue()


def image(folder: Path, *layers: Mapping[str, str], python: str | None = "3.13.7") -> Path:
    """An image archive, as `docker save` writes it."""
    files: dict[str, str | bytes] = {f"{number}.tar": tar(layer) for number, layer in enumerate(layers)}
    variables = ["PATH=/bin", *([f"PYTHON_VERSION={python}"] if python else [])]
    files["config.json"] = json.dumps({"config": {"Env": variables}})
    files["manifest.json"] = json.dumps([{"Config": "config.json", "Layers": list(files)[: len(layers)]}])
    path = folder / "image.tar"
    path.write_bytes(tar(files))
    return path


def bill(archive: Path) -> dict[str, Any]:
    return bill_of_materials(read_image(archive), version="0.1.0", revision="abc", epoch=1_700_000_000)


def what_is_invalid(document: Mapping[str, Any]) -> object:
    # The import compiles some forty grammars, for 2 s of CPU: not in a process that runs none of these tests.
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))


def purls(document: Mapping[str, Any]) -> set[str]:
    return {each["purl"] for each in document["components"] if "purl" in each}


def test_system_packages_python_python_packages_and_javascript_are_listed(tmp_path: Path) -> None:
    assert purls(bill(image(tmp_path, BASE, OURS))) == {
        "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13",
        "pkg:deb/debian/tzdata@2026a-1%2Bdeb13u1?arch=all&distro=debian-13",
        "pkg:generic/python@3.13.7",
        "pkg:npm/htmx.org@2.0.11",
        "pkg:pypi/counterfoil@0.1.0",
        "pkg:pypi/jaraco-functools@4.0",
        "pkg:pypi/msgspec@0.22.0",
        "pkg:pypi/pip@26.2",
    }


def test_it_is_valid_and_the_same_each_time(tmp_path: Path) -> None:
    document = bill(image(tmp_path, BASE, OURS))
    assert what_is_invalid(document) is None
    assert document == bill(image(tmp_path, BASE, OURS))
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert is_complete(document)


def test_licences_are_those_of_the_metadata(tmp_path: Path) -> None:
    found = {each["name"]: each.get("licenses") for each in bill(image(tmp_path, BASE, OURS))["components"]}
    assert found["msgspec"] == [{"license": {"name": "BSD-3-Clause"}}]
    assert found["jaraco-functools"] == [{"license": {"name": "MIT License"}}]
    assert found["htmx.org"] == [{"license": {"id": "0BSD"}}]


def test_the_javascript_has_its_hash(tmp_path: Path) -> None:
    (htmx,) = (each for each in bill(image(tmp_path, OURS))["components"] if each["name"] == "htmx.org")
    assert htmx["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(HTMX).hexdigest()}]


@pytest.mark.parametrize(
    "whiteout",
    [
        f"{SITE}/msgspec-0.22.0.dist-info/.wh.METADATA",
        f"{SITE}/.wh.msgspec-0.22.0.dist-info",
        f"{SITE}/msgspec-0.22.0.dist-info/.wh..wh..opq",
        "opt/.wh.counterfoil",
        ".wh.opt",
    ],
)
def test_what_a_later_layer_removed_is_not_listed(tmp_path: Path, whiteout: str) -> None:
    assert "pkg:pypi/msgspec@0.22.0" not in purls(bill(image(tmp_path, BASE, OURS, {whiteout: ""})))


def test_what_a_layer_puts_into_a_folder_that_it_replaces_is_listed(tmp_path: Path) -> None:
    folder = f"{SITE}/msgspec-0.22.0.dist-info"
    replaced = {f"{folder}/METADATA": "Name: msgspec\nVersion: 0.22.1\n", f"{folder}/.wh..wh..opq": ""}
    assert "pkg:pypi/msgspec@0.22.1" in purls(bill(image(tmp_path, BASE, OURS, replaced)))


def test_packages_of_alpine_and_of_images_without_a_package_manager_are_listed(tmp_path: Path) -> None:
    alpine = {"lib/apk/db/installed": APK, "etc/os-release": "ID=alpine\nVERSION_ID=3.22.1\n"}
    assert "pkg:apk/alpine/musl@1.2.5-r9?arch=x86_64&distro=alpine-3.22.1" in purls(
        bill(image(tmp_path, alpine))
    )
    paragraph = "Package: base-files\nArchitecture: amd64\nVersion: 13\n"
    distroless = {"var/lib/dpkg/status.d/base": paragraph, "etc/os-release": "ID=debian\n"}
    assert "pkg:deb/debian/base-files@13?arch=amd64" in purls(bill(image(tmp_path, distroless)))


def test_without_a_known_database_it_says_that_it_is_incomplete(tmp_path: Path) -> None:
    document = bill(image(tmp_path, OURS, python=None))
    assert not is_complete(document)
    assert document["compositions"][0]["aggregate"] == "incomplete"
    assert what_is_invalid(document) is None


def test_an_image_with_what_the_lock_names_is_accepted(tmp_path: Path) -> None:
    check_locked(read_image(image(tmp_path, BASE, OURS)), LOCK)


@pytest.mark.parametrize(
    "lock", ["", LOCK.replace("0.22.0", "0.21.0"), LOCK.replace("msgspec", "msgspec-other")]
)
def test_a_package_that_the_lock_does_not_name_is_an_error(tmp_path: Path, lock: str) -> None:
    with pytest.raises(NotLocked, match=r"msgspec 0\.22\.0"):
        check_locked(read_image(image(tmp_path, BASE, OURS)), lock)


def test_an_image_without_counterfoil_is_an_error() -> None:
    with pytest.raises(NotLocked, match="no counterfoil"):
        check_locked(ImageContents({}, {}), LOCK)
