"""
Secret: Kubernetes' object for passwords, keys and tokens, as Counterfoil reads it.

``repr`` and ``str`` show the metadata and the names of the keys, never a value.
"""

from typing import ClassVar

from counterfoil.resources.base import Resource


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
