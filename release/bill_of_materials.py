"""
The bill of materials of an image (CycloneDX 1.6): what is in its layers, and not what was meant to be there.

Listed are the packages of the base image (Debian's and Alpine's databases), Python itself, each installed
Python package with its licence, and the JavaScript file that the console serves. Debian's packages have no
licence here: that database does not record it. The same image gives the same bytes.
"""

import email.parser
import hashlib
import json
import re
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from packageurl import PackageURL

from release import oci

Component = dict[str, Any]

ENVIRONMENT = "opt/counterfoil/"
"""Folder of Counterfoil and its dependencies in the image."""

_DPKG = re.compile(r"var/lib/dpkg/(?:status|status\.d/[^/]+)")
_APK = re.compile(r"(?:usr/)?lib/apk/db/installed")
_OS_RELEASE = re.compile(r"(?:etc|usr/lib)/os-release")
_METADATA = re.compile(r".*\.dist-info/METADATA")
_HTMX = re.compile(r".*/static/htmx-(?P<version>[0-9.]+)\.min\.js")
_READ = (_DPKG, _APK, _OS_RELEASE, _METADATA, _HTMX)
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


class Metadata(Protocol):
    """Metadata of a Python package, read from a file or asked of the interpreter."""

    def __contains__(self, name: str, /) -> bool:
        """Whether there is such a field."""

    def __getitem__(self, name: str, /) -> str:
        """Return the first field of this name."""

    def get_all(self, name: str, /, failobj: Any = None) -> list[Any] | Any:
        """Return all fields of this name."""


class ImageContents(NamedTuple):
    """The parts of an image that the bill of materials needs."""

    files: Mapping[str, bytes]
    """The relevant files by their path without the leading slash, as a container sees them."""
    variables: Mapping[str, str]
    """Environment of the image."""


class NotLocked(Exception):
    """The image has a Python package that the lock does not name; the message lists them."""


def read_image(archive: Path) -> ImageContents:
    """Read an image archive, as ``docker save`` and buildah write it."""
    files: dict[str, bytes] = {}
    with tarfile.open(archive) as image:
        (manifest,) = json.loads(_member(image, "manifest.json"))
        configuration = json.loads(_member(image, manifest["Config"]))
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as members:
                _apply(members, files)
    variables = configuration.get("config", {}).get("Env") or []
    return ImageContents(files, dict(each.split("=", 1) for each in variables))


def read_layout(layout: Path, manifest: Mapping[str, Any]) -> ImageContents:
    """Read one image of an OCI layout, by the descriptor of its manifest."""
    files: dict[str, bytes] = {}
    image = oci.read_json(layout, manifest)
    for layer in image["layers"]:
        with tarfile.open(oci.blob(layout, layer)) as members:
            _apply(members, files)
    variables = oci.read_json(layout, image["config"]).get("config", {}).get("Env") or []
    return ImageContents(files, dict(each.split("=", 1) for each in variables))


def _member(image: tarfile.TarFile, name: str) -> bytes:
    file = image.extractfile(name)
    if file is None:
        raise tarfile.ReadError(f"{name} is not a file")
    return file.read()


def _apply(layer: tarfile.TarFile, files: dict[str, bytes]) -> None:
    """Put a layer over the layers below; a whiteout hides what is below, and nothing beside it."""
    added: dict[str, bytes] = {}
    for member in layer:
        path = member.name.removeprefix("./").removeprefix("/")
        folder, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT):
            hidden = folder if name == _OPAQUE else f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/")
            for each in [each for each in files if each == hidden or each.startswith(f"{hidden}/")]:
                del files[each]
        elif (member.isfile() or member.islnk()) and any(pattern.fullmatch(path) for pattern in _READ):
            file = layer.extractfile(member)
            added[path] = b"" if file is None else file.read()
        else:
            files.pop(path, None)
    files.update(added)


def bill_of_materials(contents: ImageContents, *, version: str, revision: str, epoch: int) -> dict[str, Any]:
    """Return the document. ``epoch`` is its date, in seconds since 1970."""
    system = _os_release(contents)
    found = [
        *_system_packages(contents, system),
        *_python(contents),
        *_distributions(contents),
        *_htmx(contents),
    ]
    components = sorted(
        {each["bom-ref"]: each for each in found}.values(), key=lambda each: str(each["bom-ref"])
    )
    root = f"counterfoil@{version}"
    subject: Component = {"type": "container", "bom-ref": root, "name": "counterfoil", "version": version}
    document = _document(subject, components, revision=revision, epoch=epoch)
    if not any(each["bom-ref"].startswith(("pkg:deb", "pkg:apk")) for each in components):
        document["compositions"] = [{"aggregate": "incomplete", "assemblies": [root]}]
    return _with_serial_number(document)


def of_wheel(
    wheel: bytes, lock: str, licences: Mapping[str, str], *, version: str, revision: str, epoch: int
) -> dict[str, Any]:
    """
    Return the document of the wheel: its hash, and every package of the lock, which is what it is tested
    with.

    ``licences`` has the licence of each package by its name; a package that is missing there gets none.
    """
    subject = _package("pypi", None, "counterfoil", version, {})
    subject["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(wheel).hexdigest()}]
    components = [
        _package("pypi", None, name, locked, {}, licences=_licences(licences.get(name, "")))
        for name, locked in re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", lock)
    ]
    return _with_serial_number(_document(subject, components, revision=revision, epoch=epoch))


def _document(
    subject: Component, components: list[Component], *, revision: str, epoch: int
) -> dict[str, Any]:
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                **subject,
                "properties": [{"name": "counterfoil:revision", "value": revision}],
            },
        },
        "components": components,
        "dependencies": [{"ref": subject["bom-ref"], "dependsOn": [each["bom-ref"] for each in components]}],
    }


def _with_serial_number(document: dict[str, Any]) -> dict[str, Any]:
    identity = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": f"urn:uuid:{identity}"}


def is_complete(document: Mapping[str, Any]) -> bool:
    """Whether the base image has a package database that could be read."""
    return "compositions" not in document


def check_locked(contents: ImageContents, lock: str) -> None:
    """Raise ``NotLocked`` if the environment has another package, or another version, than the lock names."""
    locked = dict(re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", lock))
    installed = {
        _normal(metadata["Name"]): metadata["Version"]
        for path, metadata in _metadata(contents)
        if path.startswith(ENVIRONMENT)
    }
    odd = [
        f"{name} {version}"
        for name, version in sorted(installed.items())
        if name != "counterfoil" and locked.get(name) != version
    ]
    if odd or "counterfoil" not in installed:
        raise NotLocked(f"in the image, but not in the lock: {', '.join(odd) or 'and no counterfoil in it'}")


def _os_release(contents: ImageContents) -> dict[str, str]:
    text = next((data for path, data in contents.files.items() if _OS_RELEASE.fullmatch(path)), b"")
    pairs = (line.split("=", 1) for line in text.decode().splitlines() if "=" in line and line[0] != "#")
    return {name: value.strip("\"'") for name, value in pairs}


def _system_packages(contents: ImageContents, system: Mapping[str, str]) -> Iterator[Component]:
    if "ID" in system:
        name, version = system["ID"], system.get("VERSION_ID", "")
        yield {
            "type": "operating-system",
            "bom-ref": f"os:{name}@{version}",
            "name": name,
            **({"version": version} if version else {}),
        }
    distribution = system.get("ID", "linux")
    qualifiers = {"distro": f"{distribution}-{system['VERSION_ID']}"} if "VERSION_ID" in system else {}
    for path, data in contents.files.items():
        if _DPKG.fullmatch(path):
            for each in _paragraphs(data, "Package", "Version", "Architecture"):
                # Removed with its configuration left: it is not there. Without a status (distroless) it is.
                if each.get("Status", "install ok installed").endswith(" installed"):
                    where = {"arch": each["Architecture"], **qualifiers}
                    yield _package("deb", distribution, each["Package"], each["Version"], where)
        if _APK.fullmatch(path):
            for each in _paragraphs(data, "P", "V", "A"):
                licence = [{"license": {"name": each["L"]}}] if each.get("L") else []
                where = {"arch": each["A"], **qualifiers}
                yield _package("apk", distribution, each["P"], each["V"], where, licences=licence)


def _paragraphs(data: bytes, *required: str) -> Iterator[dict[str, str]]:
    """Go through the paragraphs that have the required fields, without continued lines."""
    for paragraph in data.decode(errors="replace").split("\n\n"):
        lines = [
            line.split(":", 1) for line in paragraph.splitlines() if ":" in line and line[0] not in " \t"
        ]
        fields = {name: value.strip() for name, value in lines}
        if all(each in fields for each in required):
            yield fields


def _python(contents: ImageContents) -> Iterator[Component]:
    # The official image compiles Python itself, so no package database knows it. Elsewhere it is a package.
    version = contents.variables.get("PYTHON_VERSION")
    if version is not None:
        component = _package("generic", None, "python", version, {})
        yield {**component, "cpe": f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*"}


def _metadata(contents: ImageContents) -> Iterator[tuple[str, Message]]:
    for path, data in contents.files.items():
        if _METADATA.fullmatch(path):
            yield path, email.parser.BytesParser().parsebytes(data, headersonly=True)


def _distributions(contents: ImageContents) -> Iterator[Component]:
    for _, metadata in _metadata(contents):
        licences = licence_of(metadata)
        yield _package(
            "pypi", None, _normal(metadata["Name"]), metadata["Version"], {}, licences=_licences(licences)
        )


def licence_of(metadata: Metadata) -> str:
    """
    Return the licence of a Python package as its metadata says it, in SPDX if it does; '' if it says none.

    Several classifiers can mean a choice or a mixture; the stricter is returned, a mixture.
    """
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    words = metadata["License"].strip() if "License" in metadata else ""
    prefix = "License :: OSI Approved :: "
    classified = [each for each in metadata.get_all("Classifier") or () if each.startswith(prefix)]
    # Some put the whole text of the licence into the field.
    if words not in ("", "UNKNOWN") and len(words) <= 64 and "\n" not in words:
        return words
    return " AND ".join(each.removeprefix(prefix) for each in classified)


def _licences(said: str) -> list[Component]:
    return [{"license": {"name": said}}] if said else []


def _htmx(contents: ImageContents) -> Iterator[Component]:
    for path, data in contents.files.items():
        if (found := _HTMX.fullmatch(path)) is not None:
            component = _package(
                "npm", None, "htmx.org", found["version"], {}, licences=[{"license": {"id": "0BSD"}}]
            )
            yield {**component, "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}]}


def _package(
    kind: str,
    namespace: str | None,
    name: str,
    version: str,
    qualifiers: Mapping[str, str],
    *,
    licences: list[Component] | None = None,
) -> Component:
    purl = PackageURL(kind, namespace, name, version, dict(qualifiers)).to_string()
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        **({"licenses": licences} if licences else {}),
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
