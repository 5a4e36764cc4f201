"""
Which parts of the controller's pod the Archives of a namespace may use: volumes, and the identity at a cloud.

All namespaces of a release share the pod, and an Archive names a folder or a bucket in its spec. So the
volumes and the identity are those of the release's own namespace. Another one uses a folder of its name, if
the settings name the place of these folders, and the identity if the settings list it. Without that, an
administrator of one namespace would read and write the documents of another.

This module opens nothing. Archives with a Secret need nothing of the pod.
"""

from dataclasses import dataclass

from counterfoil.archives.errors import SettingsInvalid
from counterfoil.kube.config import own_namespace
from counterfoil.resources import Archive
from counterfoil.resources.archive_kinds import Filesystem
from counterfoil.settings import ControllerSettings, Namespaces, VolumeRoots


@dataclass(frozen=True)
class PodAccess:
    """The parts of the pod that the Archives of one namespace may use."""

    namespace: str
    release_namespace: str
    """Its Archives may use everything."""
    volume_roots: VolumeRoots | None
    identity_namespaces: Namespaces

    @classmethod
    def of(cls, settings: ControllerSettings, namespace: str) -> "PodAccess":
        """Return the parts that the settings give to a namespace."""
        release = settings.namespace or own_namespace()
        return cls(namespace, release, settings.volume_roots, settings.identity_namespaces or Namespaces())

    def check(self, archive: Archive) -> None:
        """Raise ``SettingsInvalid`` for an Archive that would use a part that its namespace may not."""
        if self.namespace == self.release_namespace:
            return
        settings = archive.spec.settings
        if isinstance(settings, Filesystem):
            self._check_root(archive.name, settings.root)
        elif (
            settings.USES_POD_IDENTITY
            and archive.spec.credentials_secret_ref is None
            and self.namespace not in self.identity_namespaces
        ):
            raise SettingsInvalid(
                f"Archive/{archive.name}: without a Secret, the identity of the pod is used, which the "
                f"namespace {self.namespace} may not use. Name a Secret in credentialsSecretRef, or ask the "
                "operator of Counterfoil to add the namespace to controller.settings.identityNamespaces."
            )

    def _check_root(self, archive: str, root: str) -> None:
        if self.volume_roots is None:
            raise SettingsInvalid(
                f"Archive/{archive}: the namespace {self.namespace} may use no volume of the controller. "
                "Choose another kind, or ask the operator of Counterfoil to set "
                "controller.settings.volumeRoots."
            )
        allowed = self.volume_roots.of(self.namespace)
        if root.rstrip("/") != allowed and not root.startswith(f"{allowed}/"):
            raise SettingsInvalid(
                f"Archive/{archive}: in the namespace {self.namespace}, spec.filesystem.root is {allowed} or "
                f"a folder below it, and not {root}. Correct it."
            )
