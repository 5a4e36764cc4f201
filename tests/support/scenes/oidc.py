"""Parts for the tests of the sign-in with an OpenID provider: API server, console, a person with rights."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from tests.support.pauses import eventually
from tests.support.servers.openid_provider import OpenIdProvider

JANE = "oidc:jane@acme.example"
"""The provider's user, as the API server names her."""

_GROUP = "rbac.authorization.k8s.io"


@asynccontextmanager
async def plane_that_trusts(provider: OpenIdProvider) -> AsyncIterator[ControlPlane]:
    """Run a control plane whose API server has read the provider's discovery document."""
    flags = [
        f"--oidc-issuer-url={provider.url}",
        f"--oidc-client-id={provider.client_id}",
        f"--oidc-ca-file={provider.authority}",
        "--oidc-username-claim=email",
        "--oidc-username-prefix=oidc:",
    ]

    async def has_discovered() -> bool:
        return provider.discoveries > 0

    async with control_plane(flags=flags) as running:
        await running.apply_crds()
        # The API server reads the document in the background after its start.
        await eventually(has_discovered)
        yield running


def console_settings(provider: OpenIdProvider, folder: Path, *, public_url: str) -> dict[str, str]:
    """Return the settings of a console at this address; write the client secret into the folder."""
    secret = folder / "client-secret"
    secret.write_text(f"{provider.client_secret}\n")
    provider.redirect_uri = f"{public_url}/oidc/return"
    return {
        "public_url": public_url,
        "oidc_issuer": provider.url,
        "oidc_client_id": provider.client_id,
        "oidc_client_secret": str(secret),
        "oidc_ca": str(provider.authority),
        "oidc_name": "Acme login",
    }


def janes_role() -> list[dict[str, Any]]:
    """Return a Role with an administrator's rights, bound to Jane."""
    return [
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "Role",
            "metadata": {"name": "jane"},
            "rules": list(rbac.ADMINISTRATOR),
        },
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "jane"},
            "roleRef": {"apiGroup": _GROUP, "kind": "Role", "name": "jane"},
            "subjects": [{"kind": "User", "apiGroup": _GROUP, "name": JANE}],
        },
    ]
