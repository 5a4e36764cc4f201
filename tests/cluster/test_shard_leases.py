"""The Leases of a release for several namespaces, as people of one of them may read them, on the real API
server."""

from datetime import UTC, datetime

import pytest

from counterfoil.kube.client import connect
from counterfoil.kube.errors import ApiError, Forbidden
from counterfoil.kube.shard_leases import served_shard_leases
from counterfoil.resources import Organization
from counterfoil.resources.base import to_json_dict
from counterfoil.resources.lease import Lease
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.builders import an_organization
from tests.support.fakes.leases import a_shard_lease


async def a_person_of(plane: ControlPlane, unit: str, *namespaces: str) -> None:
    """Create an account in a unit that may look at objects, pods and Leases of these namespaces."""
    role = ["--verb=get,list", "--resource=organizations.counterfoil.dev,leases.coordination.k8s.io,pods"]
    await plane.kubectl("-n", unit, "create", "serviceaccount", "person")
    for each in namespaces:
        await plane.kubectl("-n", each, "create", "role", "looks", *role)
        bound = ["--role=looks", f"--serviceaccount={unit}:person"]
        await plane.kubectl("-n", each, "create", "rolebinding", "looks", *bound)


@pytest.mark.parametrize("may_look_there", [True, False])
async def test_the_leases_of_the_release_are_read_with_the_rights_of_the_person(
    plane: ControlPlane, namespace: str, may_look_there: bool
) -> None:
    unit, now = f"{namespace}-unit", datetime.now(UTC)
    await plane.namespace(unit)
    await a_person_of(plane, unit, unit, *([namespace] if may_look_there else []))
    async with connect(namespace=namespace, kubeconfig=plane.kubeconfig) as release:
        held = to_json_dict(a_shard_lease(0, 1, renewed=now))
        del held["metadata"]["uid"]
        await release.create(Lease, {"apiVersion": Lease.API_VERSION, "kind": Lease.KIND, **held})
        organization = an_organization()
        body = {
            "apiVersion": Organization.API_VERSION,
            "kind": Organization.KIND,
            "metadata": {"name": organization.name},
            "spec": to_json_dict(organization.spec),
        }
        in_unit = release.in_namespace(unit)
        await in_unit.create(Organization, body)

        kubeconfig = await plane.kubeconfig_for("person", unit)
        async with connect(namespace=unit, kubeconfig=kubeconfig) as person:
            with pytest.raises(ApiError, match="nothing says yet which release serves"):
                await served_shard_leases(person, now)

            status = {"releaseNamespace": namespace}
            await in_unit.patch_status(Organization, organization.name, status, resource_version=None)
            if may_look_there:
                found = await served_shard_leases(person, now)
                assert (found.release, found.unheld_shards(now)) == (namespace, ())
            else:
                with pytest.raises(Forbidden, match=f"in the namespace {namespace}, where you may not"):
                    await served_shard_leases(person, now)
