"""
Secret: Kubernetes' object for passwords, keys and tokens, and what Counterfoil may use each one for.

A person who makes a Secret for Counterfoil labels it with its use (``USE_LABEL``). A reference in a spec is
no permission: a person who writes a spec need not have the right to read the Secret that it names
(docs/decisions/0027). The Secrets of the sealing keys and of the manifest key have the use ``sealing``, which
no reference has: the pods mount them. ``repr`` shows a Secret's name and its keys' names, never a value.
"""

import json
import re
import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Final

from counterfoil.origin import ORIGIN_ANNOTATION, origin_of
from counterfoil.resources.base import GROUP, Resource

USE_LABEL: Final = f"{GROUP}/use"

SEALED_TOKEN_TYPE: Final = f"{GROUP}/sealed-token"
"""Type of the Secrets that Counterfoil makes: a sender's key, sealed for its Sender."""

FOREIGN_TYPES: Final = frozenset(
    {
        SEALED_TOKEN_TYPE,
        "bootstrap.kubernetes.io/token",
        "helm.sh/release.v1",
        "kubernetes.io/dockercfg",
        "kubernetes.io/dockerconfigjson",
        "kubernetes.io/service-account-token",
    }
)
"""Types of Secrets that no label makes readable: programs write them, not people."""


class SecretUse(StrEnum):
    """The uses of a Secret that a person makes, as values of ``USE_LABEL``."""

    CALLBACK = "callback"
    """Callback tokens, and user name and password for basic authentication."""
    TOKEN = "token"  # noqa: S105 - the name of a use
    """A sender's API key."""
    OAUTH = "oauth"
    """The client secret of the OAuth application in eSAW."""
    ARCHIVE = "archive"
    """The credentials of an archive."""
    SMTP = "smtp"
    """The mail server and its log-in."""
    WEBHOOK = "webhook"
    """The signing secret of the outgoing webhook."""
    TRUST = "trust"
    """Trust anchors for the check of signatures."""


class Placeholder(StrEnum):
    """Text of a printed command that stands for a value which only a person knows. It is no value."""

    API_KEY = "NEW-API-KEY"
    TOKEN = "NEW-TOKEN"  # noqa: S105 - a placeholder
    USERNAME = "NEW-USERNAME"
    PASSWORD = "NEW-PASSWORD"  # noqa: S105 - a placeholder
    CLIENT_SECRET = "NEW-CLIENT-SECRET"  # noqa: S105 - a placeholder
    SIGNING_SECRET = "NEW-SIGNING-SECRET"  # noqa: S105 - a placeholder
    MAIL_HOST = "NEW-MAIL-HOST"
    ACCESS_KEY_ID = "NEW-ACCESS-KEY-ID"
    SECRET_ACCESS_KEY = "NEW-SECRET-ACCESS-KEY"  # noqa: S105 - a placeholder
    ACCOUNT_NAME = "NEW-ACCOUNT-NAME"
    ACCOUNT_KEY = "NEW-ACCOUNT-KEY"
    SERVICE_ACCOUNT_JSON = "NEW-SERVICE-ACCOUNT-JSON"
    CERTIFICATES = "NEW-CERTIFICATES"

    @classmethod
    def of_key(cls, key: str) -> "Placeholder | None":
        """Return the one of a key of an archive, such as ``NEW-ACCOUNT-KEY`` of ``accountKey``."""
        name = "NEW-" + re.sub("[A-Z]", r"-\g<0>", key).upper()
        return next((each for each in cls if each == name), None)


class Secret(Resource, frozen=True):
    """One Secret; its data is decoded."""

    KIND: ClassVar[str] = "Secret"
    PLURAL: ClassVar[str] = "secrets"
    API_VERSION: ClassVar[str] = "v1"

    type: str = "Opaque"
    data: dict[str, bytes] = {}

    def __repr__(self) -> str:
        """Name the Secret, its type and the keys in it, without their values."""
        return f"Secret(name={self.name!r}, type={self.type!r}, keys={sorted(self.data)})"

    @property
    def labels(self) -> dict[str, str]:
        """``metadata.labels``."""
        return self.metadata.labels

    @property
    def annotations(self) -> dict[str, str]:
        """``metadata.annotations``."""
        return self.metadata.annotations

    @property
    def resource_version(self) -> str | None:
        """``metadata.resourceVersion``; None for a Secret that is not stored."""
        return self.metadata.resource_version

    @property
    def origin(self) -> str | None:
        """The only origin that its content may be sent to (annotation ``counterfoil.dev/origin``), or None.
        Text that is no origin equals none. It is returned without backquotes: in a message, these are around
        a command."""
        declared = self.annotations.get(ORIGIN_ANNOTATION)
        try:
            return None if declared is None else origin_of(declared)
        except ValueError:
            return declared.replace("`", "'") if declared is not None else None

    def placeholder_fault(self, key: str) -> str | None:
        """Return why the value of a key is none: somebody typed a command as it was printed. None: it is."""
        return placeholder_fault(self.name, key, self.data.get(key, b""))

    def use_fault(self, use: SecretUse) -> str | None:
        """Return why the Secret may not be used so, and what to type; None: it may. Nothing of the Secret but
        its name is in the message."""
        if self.type in FOREIGN_TYPES:
            return (
                f"Secret/{self.name} is a program's own, so it is never read for a reference. Make another "
                f"Secret, and type `{label_command('NAME', use)}` with its name."
            )
        if self.labels.get(USE_LABEL) != use:
            return (
                f"Secret/{self.name} does not have the label {USE_LABEL}={use}, so it is not read. If it was "
                f"made for this use, type `{label_command(self.name, use)}`."
            )
        return None


def placeholder_fault(name: str, key: str, value: bytes) -> str | None:
    """Return ``Secret.placeholder_fault`` for a value of the Secret ``name``."""
    text = value.strip().decode("ascii", "replace")
    if text not in set(Placeholder):
        return None
    return f"Secret/{name}, key {key!r}: {text} is the placeholder of a command."


def label_command(name: str, use: SecretUse) -> str:
    """Return the command that labels a Secret with its use."""
    return f"kubectl label secret {name} {USE_LABEL}={use}"


def create_command(name: str, values: Mapping[str, Placeholder], use: SecretUse) -> str:
    """
    Return the command that makes a Secret with this use. The label is there at once: without it, the Secret
    may be read before a second command.

    Each value is between single quotes, where the shell changes nothing: a backslash, JSON, several lines.
    """
    literals = " ".join(f"--from-literal={shlex.quote(key)}='{value}'" for key, value in values.items())
    created = f"kubectl create secret generic {shlex.quote(name)} {literals} --dry-run=client -o yaml"
    labelled = f"kubectl label --local -f - {USE_LABEL}={use} -o yaml"
    return f"{created} | {labelled} | kubectl create -f -"


def in_namespace(command: str, namespace: str) -> str:
    """Return a command of kubectl with its namespace. Of several, the others read it from the first one."""
    return command.replace("kubectl", f"kubectl -n {namespace}", 1)


def patch_command(name: str, key: str, value: Placeholder) -> str:
    """Return the command that puts one value into a Secret; its labels stay."""
    patch = json.dumps({"stringData": {key: value}}, separators=(",", ":"))
    return shlex.join(("kubectl", "patch", "secret", name, "-p", patch))
