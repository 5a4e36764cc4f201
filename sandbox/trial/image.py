"""
The trial's image: Counterfoil's own image with the sandbox, an S3 server and a mail server beside it.

So one image runs every pod of a trial. The node test uses it for the pods around Counterfoil. Only files are
added: the Python packages of the mail server come from the environment of this Python, which is installed
from the hash-locked ``release/locks/dev.txt``, and are Python alone.
"""

import importlib
import shutil
import tomllib
from pathlib import Path
from typing import Final

SANDBOX: Final = Path(__file__).parents[1]
REPOSITORY: Final = "localhost/counterfoil-trial"
"""As in values-trial.yaml. With this host, docker, podman and buildah give the image the same name."""
PACKAGES: Final = ("aiosmtpd", "public")
"""Import names of the mail server and of what it imports beyond the runtime's packages."""
CONTAINERFILE: Final = """\
FROM {image}
COPY srv /srv
COPY versitygw /usr/local/bin/versitygw
ENV PYTHONPATH=/srv
"""


def image_name() -> str:
    """Return the name of the image of this version."""
    project = tomllib.loads((SANDBOX.parent / "pyproject.toml").read_text("utf-8"))["project"]
    return f"{REPOSITORY}:{project['version']}"


def write_context(folder: Path, image: str, versitygw: Path) -> Path:
    """Write what the image is built from into an empty folder; return the Containerfile. ``image`` is
    Counterfoil's."""
    unneeded = shutil.ignore_patterns("__pycache__", "go", "npm_locks", "tests", "docs")
    shutil.copytree(SANDBOX, folder / "srv" / "sandbox", ignore=unneeded)
    for name in PACKAGES:
        package = Path(str(importlib.import_module(name).__file__)).parent
        shutil.copytree(package, folder / "srv" / name, ignore=unneeded)
    shutil.copy2(versitygw, folder / "versitygw")
    containerfile = folder / "Containerfile"
    containerfile.write_text(CONTAINERFILE.format(image=image))
    return containerfile
