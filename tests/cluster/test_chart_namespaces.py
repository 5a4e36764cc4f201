"""A release for several namespaces: what the chart renders for each of them, and nothing more."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from counterfoil.kube.served_namespaces import ServedNamespaces
from counterfoil.settings import CommonSettings
from release.helm import CHART, Helm, HelmError, helm
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.scenes.chart import (
    EVERYTHING,
    MONITORING,
    NAMESPACE,
    RELEASE,
    WITH_CLUSTER,
    Object,
    Rendered,
    render,
    with_image,
    without_helm_3,
)

UNITS = ("unit-a", "unit-b")
PROCESSES = ("receiver", "pages", "console", "controller")
COMPONENT = "app.kubernetes.io/component"


@pytest.fixture(scope="module", name="program")
async def _program(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return await helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
async def units(program: Helm) -> Rendered:
    """Two namespaces, and not that of the release."""
    return await render(program, {"watchNamespaces": [*UNITS]})


@pytest.fixture(scope="module")
async def own_too(program: Helm) -> Rendered:
    """The namespace of the release and another one, with all that the values can switch on."""
    return await render(program, {**EVERYTHING, "watchNamespaces": [NAMESPACE, "unit-a"]}, *MONITORING)


def roles(rendered: Rendered, process: str) -> dict[str, tuple[rbac.Rule, ...]]:
    """Return what a process may do, by namespace, of the Roles that are bound to its account."""
    name = f"{RELEASE}-{process}"
    bound = {
        each["metadata"]["namespace"]
        for each in rendered.all("RoleBinding")
        if each["metadata"]["name"] == each["roleRef"]["name"] == name
        and each["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]
    }
    return {
        each["metadata"]["namespace"]: tuple(each["rules"])
        for each in rendered.all("Role")
        if each["metadata"]["name"] == name and each["metadata"]["namespace"] in bound
    }


@pytest.mark.parametrize(
    ("process", "here", "there"),
    [
        ("receiver", (), rbac.RECEIVER),
        ("pages", (), rbac.PAGES),
        ("console", (), ()),
        ("controller", rbac.CONTROLLER_OF_RELEASE, rbac.CONTROLLER_OF_SERVED),
    ],
)
def test_a_process_may_work_in_the_listed_namespaces_and_not_in_that_of_the_release(
    units: Rendered, process: str, here: tuple[rbac.Rule, ...], there: tuple[rbac.Rule, ...]
) -> None:
    expected = {NAMESPACE: here, **dict.fromkeys(UNITS, there)}
    assert roles(units, process) == {name: rules for name, rules in expected.items() if rules}


def test_in_its_own_namespace_a_release_that_lists_it_has_the_rights_of_a_release_for_one(
    own_too: Rendered,
) -> None:
    assert roles(own_too, "controller") == {
        NAMESPACE: rbac.CONTROLLER,
        "unit-a": rbac.CONTROLLER_OF_SERVED,
    }
    assert roles(own_too, "pages") == {NAMESPACE: rbac.PAGES, "unit-a": rbac.PAGES}
    assert roles(own_too, "console") == {NAMESPACE: rbac.CONSOLE}


def test_only_the_namespace_of_the_release_has_leases_of_shards(units: Rendered) -> None:
    writers = {
        namespace
        for namespace, rules in roles(units, "controller").items()
        for rule in rules
        if rule["resources"] == ["leases"] and {"create", "update"} & set(rule["verbs"])
    }
    assert writers == {NAMESPACE}


def test_nobody_gets_rights_in_the_whole_cluster(units: Rendered, own_too: Rendered) -> None:
    for rendered in (units, own_too):
        assert rendered.all("ClusterRoleBinding") == []


async def test_no_object_of_the_cluster_is_added(program: Helm, units: Rendered) -> None:
    one = await render(program)
    assert of_the_cluster(units) == of_the_cluster(one)


def of_the_cluster(rendered: Rendered) -> list[tuple[str, str]]:
    return [
        (each["kind"], each["metadata"]["name"])
        for each in rendered.objects
        if "namespace" not in each["metadata"]
    ]


async def test_a_name_that_yaml_reads_as_another_type_stays_a_name(program: Helm) -> None:
    """Each name is as often there as one that is plainly a text, also that of the release."""
    switched_on = {**EVERYTHING, "floodControl": {"quota": {"enabled": True}}}
    found = dict[str, Counter[str]]()
    for release, unit in (("home", "unit-a"), ("20260101", "123"), ("1e3", "null")):
        values = {**switched_on, "watchNamespaces": [release, unit]}
        rendered = await render(program, values, *MONITORING, "--namespace", release)
        found[unit] = Counter(leaves(rendered.objects))

    plain = found.pop("unit-a")
    assert plain["home"] > plain["unit-a"] > 10
    number = plain["home"], plain["unit-a"]
    assert (found["123"]["20260101"], found["123"]["123"]) == number
    assert (found["null"]["1e3"], found["null"]["null"]) == number


def leaves(value: object) -> Iterator[str]:
    """Go through all texts in objects."""
    if isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, str):
        yield value


async def test_a_name_that_is_no_text_in_the_values_is_refused_by_its_place(program: Helm) -> None:
    with pytest.raises(HelmError, match="'/watchNamespaces/1': got number, want string"):
        await render(program, {"watchNamespaces": ["unit-a", 2024]})


def test_in_a_listed_namespace_are_rights_and_the_quota_and_no_pod(
    units: Rendered, own_too: Rendered
) -> None:
    assert {each["kind"] for each in there(units, "unit-a")} == {"Role", "RoleBinding"}
    assert {each["kind"] for each in there(own_too, "unit-a")} == {"Role", "RoleBinding", "ResourceQuota"}


def there(rendered: Rendered, namespace: str) -> list[Object]:
    return [each for each in rendered.objects if each["metadata"].get("namespace") == namespace]


def test_no_object_is_rendered_twice(units: Rendered, own_too: Rendered) -> None:
    for rendered in (units, own_too):
        keys = [
            (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
            for each in rendered.objects
        ]
        assert len(keys) == len(set(keys))


def test_every_policy_is_bound_to_each_namespace_and_to_that_of_the_release(
    units: Rendered, own_too: Rendered
) -> None:
    for rendered, namespaces in ((units, [NAMESPACE, *UNITS]), (own_too, [NAMESPACE, "unit-a"])):
        bindings = rendered.all("ValidatingAdmissionPolicyBinding")
        assert {each["spec"]["policyName"] for each in bindings} == rendered.names(
            "ValidatingAdmissionPolicy"
        )
        for each in bindings:
            (expression,) = each["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
            assert expression == {
                "key": "kubernetes.io/metadata.name",
                "operator": "In",
                "values": namespaces,
            }


def test_no_policy_says_or_decides_anything_by_the_namespace_of_the_release(units: Rendered) -> None:
    for policy in units.all("ValidatingAdmissionPolicy"):
        text = json.dumps(policy["spec"]).replace(f"system:serviceaccount:{NAMESPACE}:", "")
        assert NAMESPACE not in text, policy["metadata"]["name"]
        assert f"-n {UNITS[0]}" not in text


def test_the_priority_level_of_the_receiver_is_for_all_namespaces(units: Rendered) -> None:
    (rule,) = units.one("FlowSchema", f"{NAMESPACE}-{RELEASE}-receiver")["spec"]["rules"]
    assert [each["namespaces"] for each in rule["resourceRules"]] == [[*UNITS]]


def test_each_namespace_has_a_quota_in_the_release(own_too: Rendered) -> None:
    quotas = {each["metadata"]["namespace"]: each["spec"]["hard"] for each in own_too.all("ResourceQuota")}
    assert quotas.keys() == {NAMESPACE, "unit-a"}
    assert quotas[NAMESPACE] == quotas["unit-a"]


def test_or_one_job_creates_the_quota_of_each_namespace_with_rights_there_alone(units: Rendered) -> None:
    (job,) = (each for each in units.all("Job") if "first-quota" in each["metadata"]["name"])
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"][1:]
    assert [json.loads(each)["metadata"]["namespace"] for each in arguments] == [*UNITS]
    assert roles(units, "first-quota").keys() == set(UNITS)


def test_helm_test_asks_the_controllers_which_namespaces_are_served(units: Rendered) -> None:
    arguments = units.pod("test")["spec"]["containers"][0]["args"][1:]
    url = f"http://{RELEASE}-test.{NAMESPACE}.svc:9090#unit-a,unit-b"
    assert f"controller={url}" in arguments
    service = units.one("Service", f"{RELEASE}-test")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == "controller"
    pod = units.one("Pod", f"{RELEASE}-test")
    for each in (service, pod):
        assert each["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert service["metadata"]["annotations"]["helm.sh/hook-weight"] == "-5"
    (rule,) = units.one("NetworkPolicy", f"{RELEASE}-controller")["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "private"}]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"


async def test_in_a_release_for_one_namespace_nobody_reaches_the_metrics_of_the_controllers(
    program: Helm,
) -> None:
    one = await render(program)
    assert one.one("NetworkPolicy", f"{RELEASE}-controller")["spec"]["ingress"] == []
    assert f"{RELEASE}-test" not in one.names("Service")


def test_prometheus_keeps_the_namespace_that_a_metric_names(own_too: Rendered) -> None:
    (endpoint,) = own_too.one("PodMonitor", RELEASE)["spec"]["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True


# -- Adding and removing one ---------------------------------------------------------------------------------


async def test_a_changed_list_restarts_no_pod(program: Helm, units: Rendered) -> None:
    more = await render(program, {"watchNamespaces": [*UNITS, "unit-c"]})
    assert more.all("Deployment") == units.all("Deployment")
    assert more.one("ConfigMap", f"{RELEASE}-namespaces") != units.one("ConfigMap", f"{RELEASE}-namespaces")


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_reads_the_list_as_a_file(
    units: Rendered, own_too: Rendered, process: str, tmp_path: Path
) -> None:
    for rendered, names in ((units, UNITS), (own_too, (NAMESPACE, "unit-a"))):
        (key,) = (data := rendered.one("ConfigMap", f"{RELEASE}-namespaces")["data"])
        spec = rendered.pod(process)["spec"]
        (volume,) = (each for each in spec["volumes"] if each["name"] == "namespaces")
        assert volume["configMap"]["name"] == f"{RELEASE}-namespaces"
        (mount,) = (each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "namespaces")
        # A file that is mounted alone (subPath) never changes.
        assert mount == {"name": "namespaces", "mountPath": "/etc/counterfoil/namespaces", "readOnly": True}
        environment = rendered.environment(process)
        assert environment["COUNTERFOIL_NAMESPACES_FILE"] == f"{mount['mountPath']}/{key}"
        file = tmp_path / key
        file.write_text(data[key])
        settings = CommonSettings(namespaces_file=file)
        assert ServedNamespaces.load(settings, NAMESPACE).names == names


async def test_without_a_list_no_file_is_mounted(program: Helm) -> None:
    one = await render(program)
    assert f"{RELEASE}-namespaces" not in one.names("ConfigMap")
    assert "COUNTERFOIL_NAMESPACES_FILE" not in one.text


async def test_the_menu_of_the_console_can_have_other_namespaces(program: Helm) -> None:
    values = {"watchNamespaces": [*UNITS], "console": {"settings": {"namespaces": "sales"}}}
    environment = (await render(program, values)).environment("console")
    assert environment["COUNTERFOIL_NAMESPACES"] == "sales"
    assert "COUNTERFOIL_NAMESPACES_FILE" not in environment


@pytest.mark.parametrize(
    "names",
    [
        ["Unit-a"],
        ["unit_a"],
        ["-a"],
        ["a" * 64],
        ["a.b"],
        [""],
        ["a", "a"],
        [f"n{each}" for each in range(51)],
    ],
    ids=str,
)
async def test_a_list_that_the_processes_could_not_read_is_refused(program: Helm, names: list[str]) -> None:
    with pytest.raises(HelmError, match="watchNamespaces"):
        await render(program, {"watchNamespaces": names})


async def test_fifty_namespaces_fit(program: Helm) -> None:
    rendered = await render(program, {"watchNamespaces": [f"n{each}" for each in range(50)]})
    assert len(roles(rendered, "receiver")) == 50


@without_helm_3
async def test_the_notes_say_what_is_served_and_begin_in_a_served_namespace(program: Helm) -> None:
    values: dict[str, Any] = with_image({"watchNamespaces": [*UNITS]})
    said = await program("install", RELEASE, CHART, "-n", NAMESPACE, "--dry-run=client", values=values)
    notes = said.partition("NOTES:")[2]
    assert f"runs in the namespace {NAMESPACE} and serves unit-a, unit-b" in notes
    assert f"kubectl -n {NAMESPACE} get pods" in notes
    assert "kubectl -n unit-a apply -f acme.yaml" in notes
    assert "does not exist" not in notes, "Helm did not ask the cluster"
    assert f"WARNING: The namespace {NAMESPACE} is not served" in notes


# -- With access to a cluster --------------------------------------------------------------------------------


async def rendered_in_cluster(
    program: Helm, plane: ControlPlane, *namespaces: str, home: str = NAMESPACE, **more: object
) -> Rendered:
    """Render for these namespaces as an installation does, which reads the cluster."""
    # The control plane has the CRDs already, without this release.
    options = {"networkPolicy": {"enabled": False}, "crds": {"enabled": False}, **more}
    values = with_image({"watchNamespaces": [*namespaces], **options})
    arguments = ("template", RELEASE, CHART, "-n", home, *WITH_CLUSTER)
    return Rendered(await replace(program, kubeconfig=plane.kubeconfig)(*arguments, values=values))


async def notes_in_cluster(
    program: Helm, plane: ControlPlane, home: str, *namespaces: str, user: Path | None = None, **more: object
) -> str:
    """Return the notes of an installation that reads the cluster, as an administrator or another user."""
    options = {"networkPolicy": {"enabled": False}, "crds": {"enabled": False}, **more}
    values = with_image({"watchNamespaces": [*namespaces], **options})
    arguments = ("install", RELEASE, CHART, "-n", home, "--dry-run=server")
    said = await replace(program, kubeconfig=user or plane.kubeconfig)(*arguments, values=values)
    return said.partition("NOTES:")[2]


async def an_organization_in(plane: ControlPlane, namespace: str) -> None:
    organization = {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": "Organization",
        "metadata": {"name": "acme", "namespace": namespace},
        "spec": {
            "baseURL": "https://demo.esignanywhere.net",
            "archiveRef": {"name": "contracts"},
            "callback": {"tokenSecretRefs": [{"name": "acme-callback", "key": "token"}]},
        },
    }
    await plane.namespace(namespace)
    await plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(organization))


async def test_the_first_list_does_not_end_the_organizations_of_the_release_unasked(
    program: Helm, plane: ControlPlane
) -> None:
    home = "with-organizations-of-its-own"
    await an_organization_in(plane, home)
    await plane.namespace("first-unit")

    with pytest.raises(HelmError, match=f"add {home} to watchNamespaces, or set leaveOwnNamespace=true"):
        await rendered_in_cluster(program, plane, "first-unit", home=home)

    left = await rendered_in_cluster(program, plane, "first-unit", home=home, leaveOwnNamespace=True)
    both = await rendered_in_cluster(program, plane, home, "first-unit", home=home)
    for rendered, names in ((left, ["first-unit"]), (both, [home, "first-unit"])):
        listed = rendered.one("ConfigMap", f"{RELEASE}-namespaces")["data"]["list"]
        assert listed.split() == names


async def test_a_namespace_of_a_release_without_organizations_need_not_be_served(
    program: Helm, plane: ControlPlane
) -> None:
    await plane.namespace("pods-alone")
    await plane.namespace("of-a-unit")
    notes = await notes_in_cluster(program, plane, "pods-alone", "of-a-unit")
    assert "WARNING: The namespace pods-alone is not served, since watchNamespaces does not name it." in notes


def annotations_of_helm(home: str) -> dict[str, str]:
    return {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": home}


async def listed_before(program: Helm, plane: ControlPlane, namespace: str, *, home: str) -> Rendered:
    """Store the list of an earlier revision of the release, and return all of that revision."""
    before = await rendered_in_cluster(program, plane, namespace, home=home)
    listed = before.one("ConfigMap", f"{RELEASE}-namespaces")
    listed["metadata"]["annotations"] |= annotations_of_helm(home)
    await plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(listed))
    return before


async def forget_prepared(plane: ControlPlane, home: str) -> None:
    """Let the list be as an earlier chart made it, which did not tell what it had prepared."""
    annotate = ("annotate", "configmap", f"{RELEASE}-namespaces", "counterfoil.dev/prepared-")
    await plane.kubectl("-n", home, *annotate)


async def test_the_notes_name_a_namespace_that_was_listed_before(program: Helm, plane: ControlPlane) -> None:
    for namespace in ("home-of-a-list", "listed-before", "listed-now"):
        await plane.namespace(namespace)
    await listed_before(program, plane, "listed-before", home="home-of-a-list")

    notes = await notes_in_cluster(program, plane, "home-of-a-list", "home-of-a-list", "listed-now")
    assert "WARNING: The namespace listed-before was in watchNamespaces before, and is no longer" in notes
    assert "The namespace home-of-a-list" not in notes


async def test_the_notes_name_the_namespaces_of_a_list_that_is_gone(
    program: Helm, plane: ControlPlane
) -> None:
    home = "home-of-a-list-that-is-gone"
    for namespace in (home, "of-a-list-that-is-gone"):
        await plane.namespace(namespace)
    before = await listed_before(program, plane, "of-a-list-that-is-gone", home=home)
    controller = before.one("Deployment", f"{RELEASE}-controller")
    controller["metadata"]["annotations"] = annotations_of_helm(home)
    await plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(controller))

    notes = await notes_in_cluster(program, plane, home)
    assert "WARNING: The namespace of-a-list-that-is-gone was in watchNamespaces before" in notes


async def test_the_notes_show_nothing_else_that_is_in_the_list(program: Helm, plane: ControlPlane) -> None:
    home = "home-of-a-changed-list"
    for namespace in (home, "changed-list"):
        await plane.namespace(namespace)
    await listed_before(program, plane, "changed-list", home=home)
    text = "changed-list\nx was removed. Run `kubectl delete namespace prod`.\n\x1b[2J\n"
    change = json.dumps({"data": {"list": text}})
    await plane.kubectl("-n", home, "patch", "configmap", f"{RELEASE}-namespaces", "--patch", change)

    notes = await notes_in_cluster(program, plane, home, home)

    assert "WARNING: The namespace changed-list was in watchNamespaces before" in notes
    assert "kubectl delete" not in notes
    assert "\x1b" not in notes


async def test_a_release_without_a_list_needs_no_right_to_read_config_maps(
    program: Helm, plane: ControlPlane
) -> None:
    home = "without-config-maps"
    await plane.namespace(home)
    user = await a_user_without_config_maps(plane, home)
    notes = await notes_in_cluster(program, plane, home, user=user, clusterScoped=False)
    assert f"runs in the namespace {home}" in notes


async def test_a_user_with_rights_in_the_release_namespace_alone_takes_one_off_an_earlier_list(
    program: Helm, plane: ControlPlane
) -> None:
    home, unit = "home-of-its-user", "unit-without-its-user"
    await plane.namespace(home)
    await listed_before(program, plane, unit, home=home)
    await forget_prepared(plane, home)
    user = await a_user_of(plane, home, [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])

    notes = await notes_in_cluster(program, plane, home, home, user=user, clusterScoped=False)

    assert f"WARNING: The namespace {unit} was in watchNamespaces before" in notes


async def a_user_without_config_maps(plane: ControlPlane, namespace: str) -> Path:
    """Return the kubeconfig of one who may read all that the chart creates in a namespace but ConfigMaps."""
    groups = ["apps", "batch", "policy", "rbac.authorization.k8s.io"]
    core = ["resourcequotas", "secrets", "serviceaccounts", "services"]
    role = [
        {"apiGroups": [""], "resources": core, "verbs": ["get", "list"]},
        {"apiGroups": groups, "resources": ["*"], "verbs": ["get", "list"]},
    ]
    return await a_user_of(plane, namespace, role)


async def a_user_of(plane: ControlPlane, namespace: str, role: list[Object]) -> Path:
    """Return the kubeconfig of one who has this Role in a namespace, and nothing elsewhere."""
    api = "rbac.authorization.k8s.io"
    installer = {"name": "installer", "namespace": namespace}
    objects: list[Object] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": installer},
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": installer, "rules": role},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": installer,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": "installer"},
            "subjects": [{"kind": "ServiceAccount", **installer}],
        },
    ]
    for each in objects:
        await plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(each))
    return await plane.kubeconfig_for("installer", namespace)


async def test_a_namespace_that_does_not_exist_is_left_out_and_stops_no_upgrade(
    program: Helm, plane: ControlPlane
) -> None:
    await plane.namespace("served-there")
    rendered = await rendered_in_cluster(program, plane, "served-there", "served-nowhere")
    assert roles(rendered, "receiver").keys() == {"served-there"}
    assert there(rendered, "served-nowhere") == []
    listed = rendered.one("ConfigMap", f"{RELEASE}-namespaces")["data"]["list"]
    assert listed.split() == ["served-there", "served-nowhere"], "the processes report it"
    bound = {
        name
        for each in rendered.all("ValidatingAdmissionPolicyBinding")
        for name in each["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"][0]["values"]
    }
    assert bound == {NAMESPACE, "served-there", "served-nowhere"}, "it is guarded from its first moment"


async def another_controller_works_in(
    program: Helm, plane: ControlPlane, namespace: str, *, release: str, home: str
) -> None:
    """Store what gives the controller of another release its Role in this namespace."""
    theirs = await render(program, {"watchNamespaces": [namespace]}, release=release)
    (binding,) = (
        each
        for each in theirs.all("RoleBinding")
        if each["metadata"]["labels"].get(COMPONENT) == "controller"
        and each["metadata"]["namespace"] == namespace
    )
    binding["subjects"][0]["namespace"] = home
    await plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(binding))


@pytest.mark.parametrize(("release", "home"), [("other", NAMESPACE), (RELEASE, "of-another-release")])
async def test_a_namespace_that_another_release_serves_is_refused(
    program: Helm, plane: ControlPlane, release: str, home: str
) -> None:
    namespace = f"served-by-{release}"
    await plane.namespace(namespace)
    await another_controller_works_in(program, plane, namespace, release=release, home=home)
    for scoped in (True, False):
        with pytest.raises(HelmError, match=f"{namespace} has a RoleBinding of another release"):
            await rendered_in_cluster(program, plane, namespace, clusterScoped=scoped)


async def test_a_namespace_that_was_listed_while_it_was_absent_can_be_that_of_another_release(
    program: Helm, plane: ControlPlane
) -> None:
    home, unit = "home-of-an-early-list", "unit-of-an-early-list"
    await plane.namespace(home)
    await listed_before(program, plane, unit, home=home)
    await plane.namespace(unit)
    await another_controller_works_in(program, plane, unit, release="other", home=unit)

    with pytest.raises(HelmError, match=f"{unit} has a RoleBinding of another release"):
        await rendered_in_cluster(program, plane, unit, home=home)


async def policies_of(program: Helm, plane: ControlPlane, home: str, *listed: str) -> None:
    """Store the bindings of the policies of a release."""
    theirs = await rendered_in_cluster(program, plane, *listed, home=home)
    for each in theirs.all("ValidatingAdmissionPolicyBinding"):
        each["metadata"]["annotations"] = annotations_of_helm(home)
        await plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(each))


@pytest.mark.parametrize(
    ("case", "home", "listed"),
    [
        ("alone", "taken-alone", []),
        ("listed", "pods-listed", ["taken-listed"]),
        ("pods", "taken-pods", ["unit-pods"]),
    ],
    ids=["its own namespace", "a listed one", "its own namespace, which it does not serve"],
)
async def test_a_release_is_refused_where_the_policies_of_another_one_let_only_that_one_write(
    program: Helm, plane: ControlPlane, case: str, home: str, listed: list[str]
) -> None:
    first, taken = f"first-{case}", f"taken-{case}"
    await plane.namespace(first)
    await policies_of(program, plane, first, taken)
    for namespace in {taken, home, *listed}:
        await plane.namespace(namespace)

    words = f"{taken} is in the admission policies of another release of Counterfoil"
    with pytest.raises(HelmError, match=words):
        await rendered_in_cluster(program, plane, *listed, home=home)
    await rendered_in_cluster(program, plane, taken, home=first)


async def test_a_release_without_policies_of_the_cluster_asks_for_none(
    program: Helm, plane: ControlPlane
) -> None:
    """Its user need not have the right to read them."""
    for namespace in ("pods-with-policies", "unit-with-policies"):
        await plane.namespace(namespace)
    await policies_of(program, plane, "pods-with-policies", "unit-with-policies")
    await rendered_in_cluster(program, plane, home="unit-with-policies", clusterScoped=False)


@pytest.mark.parametrize(
    "subject",
    [
        {"kind": "ServiceAccount", "name": "planted", "namespace": "planted-home"},
        {"kind": "User", "name": "planted", "apiGroup": "rbac.authorization.k8s.io"},
        None,
    ],
)
@pytest.mark.parametrize("is_chart_earlier", [False, True])
async def test_who_may_bind_roles_in_a_served_namespace_stops_no_upgrade(
    program: Helm, plane: ControlPlane, subject: dict[str, str] | None, is_chart_earlier: bool
) -> None:
    kind = (subject or {"kind": "nobody"})["kind"].lower() + ("-earlier" if is_chart_earlier else "")
    home, unit = f"home-{kind}", f"unit-{kind}"
    for namespace in (home, unit):
        await plane.namespace(namespace)
    await listed_before(program, plane, unit, home=home)
    if is_chart_earlier:
        await forget_prepared(plane, home)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": "planted",
            "namespace": unit,
            "labels": {
                "app.kubernetes.io/part-of": "counterfoil",
                COMPONENT: "controller",
                "app.kubernetes.io/instance": "planted",
            },
        },
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [subject] if subject else [],
    }
    await plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(binding))

    notes = await notes_in_cluster(program, plane, home, unit)

    assert f"WARNING: The namespace {unit} has a RoleBinding of another release" in notes
    assert "planted" not in notes
