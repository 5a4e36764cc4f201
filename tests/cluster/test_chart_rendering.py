"""Every switch of the chart does what its description says; values that mean nothing are refused."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from counterfoil.cli.plugin.installation.status import POLICIES_ANNOTATION
from counterfoil.durations import Duration
from counterfoil.resources.audit_annotation import AUDIT_ANNOTATION_PATTERN
from counterfoil.settings import CommonSettings, describe_settings
from docs.tools.generate_chart import MADE_BY_THE_CHART, SETTINGS, camel
from release.helm import CHART, Helm, HelmError, helm
from sandbox.controlplane import rbac
from tests.support.scenes.chart import (
    EVERYTHING,
    IS_HELM_3,
    KUBERNETES,
    MONITORING,
    NAMESPACE,
    NOTHING,
    RELEASE,
    REPOSITORY,
    VARIANTS,
    WITHOUT_CLUSTER,
    Rendered,
    render,
    with_image,
    without_helm_3,
)
from webhook.console.identity.sign_outs import CONFIG_MAP

PROCESSES = ("receiver", "pages", "console", "controller")
CREATE_KEY = f"{RELEASE}-create-sealing-key"


@pytest.fixture(scope="module", name="program")
async def _program(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return await helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
async def default(program: Helm) -> Rendered:
    return await render(program)


@pytest.fixture(scope="module")
async def everything(program: Helm) -> Rendered:
    return await render(program, EVERYTHING, *MONITORING)


@pytest.fixture(scope="module")
async def nothing(program: Helm) -> Rendered:
    return await render(program, NOTHING)


# -- As it comes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{}, EVERYTHING, NOTHING], ids=["default", "everything", "nothing"])
async def test_helm_finds_nothing_to_complain_about(program: Helm, values: dict[str, Any]) -> None:
    lax = {**values, **{kind: {"renderMode": "alwaysRender"} for kind in ("podMonitor", "serviceMonitor")}}
    await program("lint", "--strict", CHART, values=with_image(lax))


def test_each_process_runs_under_its_own_account(default: Rendered) -> None:
    accounts = {name: pod["spec"]["serviceAccountName"] for name, pod in default.pods() if name in PROCESSES}
    assert accounts == {name: f"{RELEASE}-{name}" for name in PROCESSES}
    assert default.names("ServiceAccount") == {*accounts.values(), FIRST_QUOTA, CREATE_KEY}


def test_every_pod_meets_the_restricted_level_and_writes_nowhere_but_tmp(everything: Rendered) -> None:
    for name, pod in everything.pods():
        spec, container = pod["spec"], pod["spec"]["containers"][0]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name


def test_no_pod_learns_of_services_by_its_environment(everything: Rendered) -> None:
    assert all(pod["spec"]["enableServiceLinks"] is False for _, pod in everything.pods())


def test_every_container_says_what_it_needs_and_how_much_memory_and_disk_it_may_have(
    default: Rendered,
) -> None:
    for name, pod in default.pods():
        resources = pod["spec"]["containers"][0]["resources"]
        assert set(resources["requests"]) == {"cpu", "memory", "ephemeral-storage"}, name
        assert set(resources["limits"]) == {"memory", "ephemeral-storage"}, name


def test_a_pod_reaches_the_limit_of_tmp_before_its_own_and_is_then_evicted_with_that_reason(
    everything: Rendered, default: Rendered
) -> None:
    for name, pod in (*everything.pods(), *default.pods()):
        limit = pod["spec"]["containers"][0]["resources"]["limits"]["ephemeral-storage"]
        for volume in pod["spec"].get("volumes", ()):
            if "emptyDir" in volume:
                room = "320Mi" if "controller" in name else "64Mi"
                assert volume["emptyDir"] == {"sizeLimit": room}, name
                assert int(limit.removesuffix("Mi")) >= 128, name


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_is_probed_on_the_private_port(default: Rendered, process: str) -> None:
    container = default.pod(process)["spec"]["containers"][0]
    paths = {
        probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": {"path": "/healthz", "port": "private"},
        "livenessProbe": {"path": "/healthz", "port": "private"},
        "readinessProbe": {"path": "/readyz", "port": "private"},
    }
    assert {"name": "private", "containerPort": 9090} in container["ports"]


@pytest.mark.parametrize("process", ["receiver", "pages", "console"])
def test_a_process_that_drains_has_time_for_it(default: Rendered, process: str) -> None:
    environment = default.environment(process)
    needed = sum(int(environment[f"COUNTERFOIL_{name}"].removesuffix("s")) for name in ("DRAIN", "GRACE"))
    assert needed < default.pod(process)["spec"]["terminationGracePeriodSeconds"]


async def test_no_service_leads_to_the_private_port_but_the_headless_one(
    program: Helm, everything: Rendered
) -> None:
    other = await render(program, VARIANTS["service monitor"], *MONITORING)
    for service in everything.all("Service") + other.all("Service"):
        ports = {port["targetPort"] for port in service["spec"]["ports"]}
        assert ports == ({"private"} if service["spec"].get("clusterIP") == "None" else {"http"})


def test_the_chart_says_nothing_twice(everything: Rendered) -> None:
    keys = [(each["kind"], each["metadata"]["name"]) for each in everything.objects]
    assert len(keys) == len(set(keys))


def test_every_object_carries_the_labels(everything: Rendered) -> None:
    for each in everything.objects:
        if each["kind"] != "CustomResourceDefinition" and not each["metadata"]["name"].endswith(
            ("-object", "-text")
        ):
            assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == RELEASE
            assert each["metadata"]["labels"]["team"] == "legal"


# -- Rights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        ("receiver", rbac.RECEIVER),
        ("pages", rbac.PAGES),
        ("controller", rbac.CONTROLLER),
        ("create-sealing-key", rbac.CREATE_SEALING_KEY),
    ],
)
def test_a_role_says_what_the_tests_run_the_process_with(
    default: Rendered, process: str, expected: tuple[rbac.Rule, ...]
) -> None:
    assert tuple(default.one("Role", f"{RELEASE}-{process}")["rules"]) == expected


def test_consoles_that_share_sessions_store_sign_outs_in_one_object_and_have_no_other_right(
    everything: Rendered,
) -> None:
    (rule,) = everything.one("Role", f"{RELEASE}-console")["rules"]
    assert (rule,) == rbac.CONSOLE
    assert rule["resourceNames"] == [CONFIG_MAP]
    assert "data" not in everything.one("ConfigMap", CONFIG_MAP)


def test_a_console_without_shared_sessions_has_no_own_rights(default: Rendered) -> None:
    processes = {f"{RELEASE}-{name}" for name in set(PROCESSES) - {"console"}}
    assert default.names("RoleBinding") == {*processes, FIRST_QUOTA, CREATE_KEY}
    assert default.all("ClusterRoleBinding") == []


def test_nobody_lists_or_watches_secrets_and_the_receiver_has_none(everything: Rendered) -> None:
    for role in everything.all("Role") + everything.all("ClusterRole"):
        for rule in role["rules"]:
            if {"secrets", "*"} & set(rule["resources"]):
                assert not {"list", "watch", "*"} & set(rule["verbs"]), role["metadata"]["name"]
                assert role["metadata"]["name"] != f"{RELEASE}-receiver"


def test_people_get_rights_by_aggregation(default: Rendered) -> None:
    for name in ("view", "edit", "admin"):
        role = default.one("ClusterRole", f"{NAMESPACE}-{RELEASE}-{name}")
        assert role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{name}"] == "true"
        assert not [each for rule in role["rules"] for each in rule["resources"] if "/" in each]


async def test_each_aggregation_can_be_switched_off(program: Helm) -> None:
    rendered = await render(program, {"rbac": {"aggregate": {"edit": False}}})
    assert rendered.names("ClusterRole") == {f"{NAMESPACE}-{RELEASE}-{name}" for name in ("view", "admin")}


# -- CustomResourceDefinitions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted((CHART / "files" / "crds").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_definitions_are_kept_and_otherwise_those_of_the_file(default: Rendered, path: Path) -> None:
    source = yaml.safe_load(path.read_text(encoding="utf-8"))
    rendered = default.one("CustomResourceDefinition", source["metadata"]["name"])
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert rendered["spec"] == source["spec"]


def test_the_definitions_take_annotations(everything: Rendered) -> None:
    for each in everything.all("CustomResourceDefinition"):
        assert each["metadata"]["annotations"] == {
            "helm.sh/resource-policy": "keep",
            "example.com/sync-wave": "-1",
        }


async def test_the_definitions_can_be_left_out_or_go_with_the_release(program: Helm) -> None:
    without = await render(program, {"crds": {"enabled": False}})
    assert without.all("CustomResourceDefinition") == []
    gone = await render(program, {"crds": {"keep": False}})
    assert all("annotations" not in each["metadata"] for each in gone.all("CustomResourceDefinition"))


async def test_without_cluster_scope_everything_is_of_the_namespace(program: Helm) -> None:
    rendered = await render(program, WITHOUT_CLUSTER)
    assert {each["metadata"].get("namespace") for each in rendered.objects} == {NAMESPACE}


# -- Processes -----------------------------------------------------------------------------------------------


def test_pages_and_console_can_be_left_out(nothing: Rendered) -> None:
    assert {name for name, _ in nothing.pods()} == {"receiver", "controller"}
    assert nothing.all("NetworkPolicy") == nothing.all("PodDisruptionBudget") == nothing.all("Role") == []
    assert nothing.all("ResourceQuota") == nothing.all("Secret") == nothing.all("ServiceAccount") == []


def test_an_account_that_exists_is_used(nothing: Rendered) -> None:
    assert nothing.pod("receiver")["spec"]["serviceAccountName"] == "theirs"


def test_settings_become_environment_with_whole_numbers_written_out(everything: Rendered) -> None:
    environment = everything.environment("receiver")
    assert environment["COUNTERFOIL_CALLBACK_RATE"] == "1000000"
    assert environment["COUNTERFOIL_CALLBACK_BURST"] == "2000"
    assert environment["COUNTERFOIL_DRAIN"] == "10s"
    assert environment["COUNTERFOIL_GRACE"] == "20s"
    assert environment["COUNTERFOIL_LOG_FORMAT"] == "json"
    assert environment["HTTPS_PROXY"] == "http://proxy:3128"
    assert environment["TZ"] == "Europe/Vienna"


async def test_a_process_can_log_otherwise_than_the_rest(program: Helm) -> None:
    rendered = await render(program, {"controller": {"settings": {"logLevel": "debug"}}})
    assert rendered.environment("controller")["COUNTERFOIL_LOG_LEVEL"] == "debug"
    assert rendered.environment("receiver")["COUNTERFOIL_LOG_LEVEL"] == "info"


async def test_half_a_callback_per_second_stays_half_a_callback(program: Helm) -> None:
    rendered = await render(program, {"receiver": {"settings": {"callbackRate": 0.5}}})
    assert rendered.environment("receiver")["COUNTERFOIL_CALLBACK_RATE"] == "0.5"


@pytest.mark.parametrize(
    "command",
    [
        ("template", RELEASE),
        pytest.param(("install", RELEASE, "--dry-run=client"), marks=without_helm_3),
    ],
)
@pytest.mark.parametrize("values", [{}, NOTHING, {"image": {"tag": "1.0"}}], ids=["no", "nothing", "tag"])
async def test_without_an_image_one_sentence_says_what_to_set_and_where_to_get_it(
    program: Helm, command: tuple[str, ...], values: dict[str, Any]
) -> None:
    with pytest.raises(HelmError) as refused:
        await program(*command, CHART, values=values)
    (said,) = re.findall(r"image\.repository is not set: (.*)\.", str(refused.value))
    assert "build the image with `make image`" in said
    assert "set image.repository to its name there, such as registry.example.com/counterfoil" in said
    assert ". " not in said


@pytest.mark.parametrize("repository", ["counterfoil", "registry:5000/team/counterfoil", "localhost:5000/c"])
async def test_a_repository_may_have_a_port(program: Helm, repository: str) -> None:
    rendered = await render(program, {"image": {"repository": repository, "tag": "1.0"}})
    assert {pod["spec"]["containers"][0]["image"] for _, pod in rendered.pods()} == {f"{repository}:1.0"}


def test_a_digest_decides_which_image_runs(everything: Rendered) -> None:
    images = {pod["spec"]["containers"][0]["image"] for _, pod in everything.pods()}
    assert images == {f"registry.example.com/counterfoil@sha256:{'a' * 64}"}


def test_without_a_tag_the_image_is_that_of_the_chart(default: Rendered) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert default.pod("controller")["spec"]["containers"][0]["image"] == f"{REPOSITORY}:{version}"


async def test_with_a_collector_the_image_is_the_variant_for_traces_unless_a_tag_is_given(
    program: Helm,
) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    tracing = {"endpoint": "http://collector:4318"}
    for values, tag in (({}, f"{version}-traces"), ({"tag": "mine"}, "mine")):
        rendered = await render(program, {"tracing": tracing, "image": values})
        images = {pod["spec"]["containers"][0]["image"] for _, pod in rendered.pods()}
        assert images == {f"{REPOSITORY}:{tag}"}


def test_the_controllers_are_candidates_under_the_names_of_their_pods(everything: Rendered) -> None:
    assert everything.one("Deployment", f"{RELEASE}-controller")["spec"]["replicas"] == 4
    environment = everything.environment("controller")
    assert environment["COUNTERFOIL_SHARDS"] == "3"
    assert environment["COUNTERFOIL_EVENT_QUOTA"] == "100000"
    assert environment["COUNTERFOIL_IDENTITY"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_controller_and_pages_know_the_addresses_of_their_node(everything: Rendered) -> None:
    for process in ("controller", "pages"):
        variable = everything.environment(process)["COUNTERFOIL_NODE_ADDRESSES"]
        assert variable == {"fieldRef": {"fieldPath": "status.hostIPs"}}, process


async def test_controllers_whose_volume_one_node_can_mount_are_replaced_and_not_added(program: Helm) -> None:
    rendered = await render(program, {"controller": {"strategy": "Recreate", "replicas": 1}})
    spec = rendered.one("Deployment", f"{RELEASE}-controller")["spec"]
    assert (spec["strategy"], spec["replicas"]) == ({"type": "Recreate"}, 1)


def test_an_archive_in_a_volume_is_mounted_into_the_controller_only(everything: Rendered) -> None:
    mounted = {
        name
        for name, pod in everything.pods()
        if any(each["name"] == "dms" for each in pod["spec"]["containers"][0].get("volumeMounts", ()))
    }
    assert mounted == {"controller"}


def test_scheduling_is_as_the_values_say(everything: Rendered) -> None:
    spec = everything.pod("pages")["spec"]
    assert spec["priorityClassName"] == "business"
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert spec["tolerations"] == EVERYTHING["tolerations"]
    assert spec["affinity"] == EVERYTHING["affinity"]
    assert [each["topologyKey"] for each in spec["topologySpreadConstraints"]] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    own = everything.pod("receiver")["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in own] == ["rack"]


def test_every_other_field_of_a_pod_is_passed_on(everything: Rendered) -> None:
    for process in PROCESSES:
        assert everything.pod(process)["spec"]["hostAliases"][0]["ip"] == "10.3.0.7"


def test_each_process_takes_separate_containers_variables_annotations_and_probes(
    everything: Rendered,
) -> None:
    deployment = everything.one("Deployment", f"{RELEASE}-receiver")
    assert deployment["metadata"]["annotations"] == {"example.com/reload": "true"}
    containers = deployment["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in containers] == ["receiver", "shipper"]
    assert containers[0]["envFrom"] == [{"secretRef": {"name": "proxy"}}]
    readiness, startup = containers[0]["readinessProbe"], containers[0]["startupProbe"]
    assert (readiness["periodSeconds"], readiness["failureThreshold"]) == (5, 2)
    assert (startup["periodSeconds"], startup["failureThreshold"]) == (2, 120)
    for process in ("pages", "console", "controller"):
        (container,) = everything.pod(process)["spec"]["containers"]
        assert "envFrom" not in container
        assert container["readinessProbe"]["periodSeconds"] == 3


async def test_each_process_takes_annotations_of_its_deployment(program: Helm) -> None:
    values = {name: {"deploymentAnnotations": {"example.com/of": name}} for name in PROCESSES}
    rendered = await render(program, values)
    for name in PROCESSES:
        annotations = rendered.one("Deployment", f"{RELEASE}-{name}")["metadata"]["annotations"]
        assert annotations == {"example.com/of": name}


def test_a_service_takes_labels_and_fields_of_load_balancers(everything: Rendered) -> None:
    service = everything.one("Service", f"{RELEASE}-receiver")
    assert service["metadata"]["labels"]["exposed"] == "yes"
    assert service["spec"]["loadBalancerClass"] == "example.com/inside"
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"


def test_spreading_can_be_switched_off(nothing: Rendered) -> None:
    assert "topologySpreadConstraints" not in nothing.pod("receiver")["spec"]


def test_labels_and_annotations_reach_the_pods(everything: Rendered) -> None:
    metadata = everything.pod("controller")["metadata"]
    assert metadata["labels"]["cost"] == "4711"
    assert metadata["annotations"]["example.com/injected"] == "no"
    account = everything.one("ServiceAccount", f"{RELEASE}-receiver")
    assert account["metadata"]["annotations"] == {"example.com/role": "receiver"}
    assert everything.pod("receiver")["spec"]["imagePullSecrets"] == [{"name": "pull"}]


def test_the_receiver_scales_only_if_it_is_configured(default: Rendered, everything: Rendered) -> None:
    assert default.all("HorizontalPodAutoscaler") == []
    assert default.one("Deployment", f"{RELEASE}-receiver")["spec"]["replicas"] == 2
    scaled = everything.one("HorizontalPodAutoscaler", f"{RELEASE}-receiver")["spec"]
    assert (scaled["minReplicas"], scaled["maxReplicas"]) == (3, 9)
    assert scaled["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": f"{RELEASE}-receiver",
    }
    assert scaled["metrics"][0]["resource"]["name"] == "cpu"
    assert scaled["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 600}}
    assert "replicas" not in everything.one("Deployment", f"{RELEASE}-receiver")["spec"]


def test_a_disruption_budget_counts_available_pods_if_it_is_configured(everything: Rendered) -> None:
    budgets = {each["metadata"]["name"]: each["spec"] for each in everything.all("PodDisruptionBudget")}
    assert budgets[f"{RELEASE}-receiver"]["minAvailable"] == 2
    assert "maxUnavailable" not in budgets[f"{RELEASE}-receiver"]
    assert "minAvailable" not in budgets[f"{RELEASE}-pages"]


def test_a_drain_takes_one_pod_at_a_time(default: Rendered) -> None:
    assert default.names("PodDisruptionBudget") == {f"{RELEASE}-{name}" for name in PROCESSES}
    assert {each["spec"]["maxUnavailable"] for each in default.all("PodDisruptionBudget")} == {1}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "seven pods, which request 550m CPU, 1056 MiB of memory and 896 MiB of ephemeral storage"),
        (
            {
                "receiver": {"replicas": 1},
                "pages": {"replicas": 1},
                "controller": {"replicas": 1},
                "console": {"enabled": False},
            },
            "it requests 250m CPU and 480 MiB",
        ),
    ],
    ids=["default", "small"],
)
async def test_a_release_costs_what_the_manual_says(program: Helm, values: dict[str, Any], said: str) -> None:
    cost = {"cpu": 0, "memory": 0, "ephemeral-storage": 0}
    for each in (await render(program, values)).all("Deployment"):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        for name, amount in container["resources"]["requests"].items():
            cost[name] += each["spec"]["replicas"] * int(amount.removesuffix("m").removesuffix("Mi"))
    figures = [int(each) for each in re.findall(r"(\d+)(?:m| MiB)", said)]
    assert figures == list(cost.values())[: len(figures)]
    manual = (CHART.parents[1] / "docs" / "chart.md").read_text(encoding="utf-8")
    assert said in " ".join(manual.split())


# -- Keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
async def test_the_chart_renders_no_secret_and_twice_the_same_bytes(
    program: Helm, values: dict[str, Any]
) -> None:
    first, second = [await render(program, values, *flags, *MONITORING) for flags in ((), (KNOWN,))]
    assert first.all("Secret") == []
    assert first.text == second.text


IMPURE = re.compile(
    r"\b(now|ago|date|rand\w+|uuidv4|gen\w+|htpasswd|bcrypt|derivePassword|getHostByName|shuffle)\b"
)
"""Functions of templates whose result is another each time."""


@pytest.mark.parametrize(
    "path", sorted(path for path in (CHART / "templates").rglob("*.*")), ids=lambda path: path.name
)
def test_no_template_calls_a_function_whose_result_is_another_each_time(path: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    actions = [re.sub(r'"[^"]*"', "", action) for action in re.findall(r"\{\{.*?\}\}", text, re.DOTALL)]
    assert [action for action in actions if IMPURE.search(action)] == []
    looked_up = [action for action in actions if "lookup" in action]
    # To refuse an installation that can't work, to leave out a listed namespace that does not exist, and to
    # refuse or warn about one that another release may serve, or that is no longer listed; the test on a real
    # cluster compares what is rendered.
    known = {"network-policies.yaml": 1, "checks.yaml": 2, "_names.tpl": 6}
    assert len(looked_up) == known.get(path.name, 0)


def test_a_job_creates_the_sealing_key_before_anything_else(default: Rendered) -> None:
    hooks = [each for each in default.objects if each["metadata"]["name"] == CREATE_KEY]
    assert {each["kind"] for each in hooks} == {
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "NetworkPolicy",
        "Job",
    }
    for each in hooks:
        annotations = each["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade", each["kind"]
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
        assert int(annotations.get("helm.sh/hook-weight", 0)) == (0 if each["kind"] == "Job" else -5)


def test_the_job_creates_the_secret_that_the_processes_mount(everything: Rendered, default: Rendered) -> None:
    assert default.environment("create-sealing-key") == {
        "COUNTERFOIL_SECRET": f"{RELEASE}-sealing-keys",
        "COUNTERFOIL_LABELS": f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=counterfoil",
    }
    volumes = {each["name"]: each for each in default.pod("controller")["spec"]["volumes"]}
    sources = [each["secret"]["name"] for each in volumes["sealing-keys"]["projected"]["sources"]]
    assert sources == [f"{RELEASE}-sealing-keys"]
    assert CREATE_KEY not in everything.names("Job"), "the Secret exists already"


@pytest.mark.parametrize("job", ["create-sealing-key", "first-quota"])
async def test_the_pod_of_a_job_is_scheduled_and_labelled_as_the_values_say(program: Helm, job: str) -> None:
    rendered = await render(program, {**EVERYTHING, "sealingKeys": {}, "floodControl": {}}, *MONITORING)
    pod = rendered.pod(job)
    spec = pod["spec"]
    assert (spec["priorityClassName"], spec["nodeSelector"]) == ("business", {"kubernetes.io/os": "linux"})
    assert (spec["tolerations"], spec["affinity"]) == (EVERYTHING["tolerations"], EVERYTHING["affinity"])
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["hostAliases"][0]["ip"] == "10.3.0.7"
    assert pod["metadata"]["labels"]["cost"] == "4711"
    assert pod["metadata"]["annotations"] == {"example.com/injected": "no"}
    assert rendered.environment(job)["HTTPS_PROXY"] == "http://proxy:3128"
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


async def test_the_secret_of_the_job_has_the_labels_of_all_objects(program: Helm) -> None:
    rendered = await render(program, {**EVERYTHING, "sealingKeys": {}}, *MONITORING)
    assert rendered.environment("create-sealing-key")["COUNTERFOIL_LABELS"].endswith(",team=legal")


async def test_a_job_that_can_not_succeed_ends_and_one_that_did_can_be_removed(
    program: Helm, default: Rendered
) -> None:
    for job in default.all("Job"):
        assert 0 < job["spec"]["activeDeadlineSeconds"] <= 3600
        assert "ttlSecondsAfterFinished" not in job["spec"], "Argo CD would create it again and again"
    values = {"floodControl": {"quota": {"ttlSecondsAfterFinished": 600}}}
    (job,) = filter(is_first_quota, (await render(program, values)).all("Job"))
    assert job["spec"]["ttlSecondsAfterFinished"] == 600


async def test_on_openshift_pods_choose_no_user_and_reach_its_name_servers(program: Helm) -> None:
    rendered = await render(program, VARIANTS["OpenShift"])
    for name, pod in rendered.pods():
        assert pod["spec"]["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
    for each in rendered.all("NetworkPolicy"):
        rule = next(rule for rule in each["spec"]["egress"] if ports([rule]) == {5353})
        assert rule["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == (
            "openshift-dns"
        )


def test_the_usual_address_of_the_name_server_of_a_node_is_open(default: Rendered) -> None:
    for each in default.all("NetworkPolicy"):
        rule = next(rule for rule in each["spec"]["egress"] if ports([rule]) == {53})
        assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"], each["metadata"]["name"]


async def test_the_sealing_keys_can_be_in_a_volume_and_in_no_secret(program: Helm) -> None:
    csi = {"driver": "secrets-store.csi.k8s.io", "readOnly": True}
    values = {"sealingKeys": {"volume": {"csi": csi}}, "console": {"sessionKeysSecret": "sessions"}}
    rendered = await render(program, values)
    for process in ("pages", "controller"):
        volumes = {each["name"]: each for each in rendered.pod(process)["spec"]["volumes"]}
        assert volumes["sealing-keys"] == {"name": "sealing-keys", "csi": csi}
        assert rendered.environment(process)["COUNTERFOIL_SEALING_KEYS"] == "/etc/counterfoil/sealing-keys"
    volumes = {each["name"]: each for each in rendered.pod("console")["spec"]["volumes"]}
    assert volumes["sealing-keys"]["projected"]["sources"] == [{"secret": {"name": "sessions"}}]
    assert f"{RELEASE}-create-sealing-key" not in rendered.names("Job")


async def test_without_roles_the_sealing_key_has_to_exist(program: Helm) -> None:
    with pytest.raises(HelmError, match=r"sealingKeys\.existingSecret or sealingKeys\.volume is required"):
        await render(program, {"rbac": {"create": False}})


def test_sealing_keys_that_exist_are_used_together(everything: Rendered) -> None:
    assert everything.all("Secret") == []
    volumes = {each["name"]: each for each in everything.pod("pages")["spec"]["volumes"]}
    sources = [each["secret"]["name"] for each in volumes["sealing-keys"]["projected"]["sources"]]
    assert sources == ["keys", "keys-2027"]


def test_only_pages_and_controller_have_the_sealing_keys(everything: Rendered, default: Rendered) -> None:
    secret = '"name": "keys"'
    have = {name for name, pod in everything.pods() if secret in json.dumps(pod["spec"].get("volumes"))}
    assert have == {"pages", "controller"}
    assert "COUNTERFOIL_SEALING_KEYS" not in default.environment("console")


def test_the_consoles_sessions_have_their_own_key(everything: Rendered) -> None:
    volumes = {each["name"]: each for each in everything.pod("console")["spec"]["volumes"]}
    assert volumes["sealing-keys"]["projected"]["sources"] == [{"secret": {"name": "sessions"}}]


def test_the_key_of_manifests_is_the_controllers_alone(everything: Rendered, default: Rendered) -> None:
    path = "/etc/counterfoil/manifest-key/private.pem"
    assert everything.environment("controller")["COUNTERFOIL_MANIFEST_KEY"] == path
    assert "COUNTERFOIL_MANIFEST_KEY" not in everything.environment("pages")
    assert "COUNTERFOIL_MANIFEST_KEY" not in default.environment("controller")


# -- Ways in -------------------------------------------------------------------------------------------------


def test_nothing_leads_in_from_outside_unless_it_is_configured(default: Rendered) -> None:
    assert default.all("Ingress") == default.all("HTTPRoute") == []


PUBLIC = {"/callbacks": "receiver", "/before-send": "pages", "/consent": "pages", "/oauth": "pages"}


def test_an_ingress_opens_the_public_paths_and_no_other(everything: Rendered) -> None:
    ingress = everything.one("Ingress", RELEASE)["spec"]
    opened = {
        path["path"]: path["backend"]["service"]["name"] for path in ingress["rules"][0]["http"]["paths"]
    }
    assert opened == {path: f"{RELEASE}-{process}" for path, process in PUBLIC.items()}
    assert ingress["tls"] == [{"hosts": ["callbacks.example.com"], "secretName": "callbacks-tls"}]


def test_a_route_opens_the_public_paths_and_no_other(everything: Rendered) -> None:
    route = everything.one("HTTPRoute", RELEASE)["spec"]
    opened = {
        match["path"]["value"]: (rule["backendRefs"][0]["name"], rule["backendRefs"][0]["port"])
        for rule in route["rules"]
        for match in rule["matches"]
    }
    ports = {"receiver": 8080, "pages": 80}
    assert opened == {path: (f"{RELEASE}-{name}", ports[name]) for path, name in PUBLIC.items()}


def test_routes_take_annotations(everything: Rendered) -> None:
    for name, where in ((RELEASE, "outside"), (f"{RELEASE}-console", "inside")):
        assert everything.one("HTTPRoute", name)["metadata"]["annotations"] == {"example.com/route": where}


def test_the_console_has_a_separate_ingress(everything: Rendered) -> None:
    assert everything.names("Ingress") == everything.names("HTTPRoute") == {RELEASE, f"{RELEASE}-console"}


async def test_without_pages_only_callbacks_come_in(program: Helm) -> None:
    rendered = await render(
        program, {"pages": {"enabled": False}, "ingress": {"enabled": True, "host": "a.example"}}
    )
    paths = rendered.one("Ingress", RELEASE)["spec"]["rules"][0]["http"]["paths"]
    assert [each["path"] for each in paths] == ["/callbacks"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"ingress": {"enabled": True, "host": "in.example"}}, "https://in.example"),
        (
            {"httpRoute": {"enabled": True, "hostnames": ["gw.example"], "parentRefs": [{"name": "gw"}]}},
            "https://gw.example",
        ),
        (
            {
                "ingress": {"enabled": True, "host": "in.example"},
                "controller": {"settings": {"callbackUrl": "https://own.example"}},
            },
            "https://own.example",
        ),
    ],
    ids=["none", "ingress", "route", "told"],
)
async def test_the_controller_knows_where_callbacks_come_in(
    program: Helm, values: dict[str, Any], expected: str | None
) -> None:
    rendered = await render(program, values)
    assert rendered.environment("controller").get("COUNTERFOIL_CALLBACK_URL") == expected


# -- NetworkPolicies -----------------------------------------------------------------------------------------


def policy(rendered: Rendered, name: str) -> dict[str, Any]:
    found: dict[str, Any] = rendered.one("NetworkPolicy", f"{RELEASE}-{name}")["spec"]
    return found


def ports(rules: list[dict[str, Any]]) -> set[Any]:
    return {port["port"] for rule in rules for port in rule["ports"]}


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_is_closed_in_both_directions_by_default(default: Rendered, process: str) -> None:
    found = policy(default, process)
    assert found["policyTypes"] == ["Ingress", "Egress"]
    assert found["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == process
    assert ports(found["ingress"]) == (set() if process == "controller" else {"http"})


@pytest.mark.parametrize(
    ("process", "beyond"),
    [
        ("receiver", set()),
        ("console", set()),
        ("pages", {443}),
        ("controller", {443, 22, 25, 465, 587}),
        ("create-sealing-key", set()),
        ("first-quota", set()),
    ],
)
def test_a_process_reaches_what_it_needs_and_no_more(
    default: Rendered, process: str, beyond: set[int]
) -> None:
    assert ports(policy(default, process)["egress"]) == {53, 6443} | beyond


def test_the_policy_of_the_job_for_the_quota_selects_its_pod_and_lets_nobody_in(default: Rendered) -> None:
    found = policy(default, "first-quota")
    labels = default.pod("first-quota")["metadata"]["labels"]
    assert found["podSelector"]["matchLabels"].items() <= labels.items()
    assert (found["policyTypes"], found["ingress"]) == (["Ingress", "Egress"], [])


async def test_only_a_console_with_an_openid_provider_reaches_one(program: Helm) -> None:
    settings = {
        "oidcIssuer": "https://login.example.com",
        "oidcClientId": "c",
        "publicUrl": "https://console.example.com",
    }
    values = {"console": {"settings": settings}, "networkPolicy": {"egress": {"oidc": {"ports": [8443]}}}}
    rendered = await render(program, values)
    assert ports(policy(rendered, "console")["egress"]) == {53, 6443, 8443}
    assert ports(policy(rendered, "pages")["egress"]) == {53, 443, 6443}


def test_addresses_where_clouds_hand_out_credentials_are_out_of_reach(default: Rendered) -> None:
    for rule in policy(default, "controller")["egress"]:
        for block in (each["ipBlock"] for each in rule.get("to", ()) if "ipBlock" in each):
            networks = [ip_network(block["cidr"]), *map(ip_network, block.get("except", ()))]
            held = [ip_address("169.254.169.254") in each for each in networks]
            assert not held[0] or any(held[1:]), rule


def test_the_api_server_can_be_named(everything: Rendered) -> None:
    egress = policy(everything, "receiver")["egress"]
    assert {
        "to": [{"ipBlock": {"cidr": "10.2.0.1/32"}}],
        "ports": [{"protocol": "TCP", "port": 6443}],
    } in egress
    assert EVERYTHING["networkPolicy"]["extraEgress"][0] in egress


def test_the_public_port_can_be_kept_to_the_ingress_and_the_test(everything: Rendered) -> None:
    (public,) = (
        each for each in policy(everything, "receiver")["ingress"] if each["ports"][0]["port"] == "http"
    )
    assert public["from"][0] == EVERYTHING["networkPolicy"]["publicFrom"][0]
    assert public["from"][1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert len(public["from"]) == 2


def test_metrics_are_read_by_whom_the_values_name(everything: Rendered) -> None:
    for process in PROCESSES:
        (private,) = (
            each for each in policy(everything, process)["ingress"] if each["ports"][0]["port"] == "private"
        )
        assert private["from"] == EVERYTHING["networkPolicy"]["metricsFrom"]


async def test_a_monitor_opens_metrics_to_the_cluster_if_nobody_is_named(program: Helm) -> None:
    rendered = await render(program, {"podMonitor": {"enabled": True}}, *MONITORING)
    (private,) = policy(rendered, "controller")["ingress"]
    assert private["from"] == [{"namespaceSelector": {}}]


# -- Monitoring ----------------------------------------------------------------------------------------------

KINDS = {"podMonitor": "PodMonitor", "serviceMonitor": "ServiceMonitor", "prometheusRule": "PrometheusRule"}


@pytest.mark.parametrize("value", KINDS)
async def test_a_monitor_fails_is_skipped_or_rendered_where_its_kind_is_unknown(
    program: Helm, value: str
) -> None:
    with pytest.raises(HelmError, match=f"does not know {KINDS[value]}"):
        await render(program, {value: {"enabled": True}})
    skipped = await render(program, {value: {"enabled": True, "renderMode": "skipIfMissing"}})
    assert skipped.all(KINDS[value]) == []
    rendered = await render(program, {value: {"enabled": True, "renderMode": "alwaysRender"}})
    assert len(rendered.all(KINDS[value])) == 1


async def test_monitors_find_the_pods_by_labels_and_are_found_by_theirs(
    program: Helm, everything: Rendered
) -> None:
    monitor = everything.one("PodMonitor", RELEASE)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    for name, pod in everything.pods():
        if name in PROCESSES:
            assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    endpoint = monitor["spec"]["podMetricsEndpoints"][0]
    assert (endpoint["port"], endpoint["path"], endpoint["interval"]) == ("private", "/metrics", "30s")
    assert endpoint.items() >= EVERYTHING["podMonitor"]["endpoint"].items()
    other = await render(program, VARIANTS["service monitor"], *MONITORING)
    service = other.one("Service", f"{RELEASE}-metrics")
    assert service["spec"]["clusterIP"] == "None"
    chosen = other.one("ServiceMonitor", RELEASE)["spec"]["selector"]["matchLabels"]
    assert chosen.items() <= service["metadata"]["labels"].items()


@pytest.mark.parametrize("value", KINDS)
async def test_a_monitor_in_another_namespace_finds_the_pods_of_the_release(
    program: Helm, value: str
) -> None:
    values = {value: {"enabled": True, "namespace": "monitoring"}}
    (monitor,) = (await render(program, values, *MONITORING)).all(KINDS[value])
    assert monitor["metadata"]["namespace"] == "monitoring"
    if value != "prometheusRule":
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": [NAMESPACE]}


@pytest.mark.parametrize("audience", ["operators", "organizations", "service-levels"])
def test_each_dashboard_is_found_by_its_label(everything: Rendered, default: Rendered, audience: str) -> None:
    assert default.all("ConfigMap") == []
    dashboard = everything.one("ConfigMap", f"{RELEASE}-dashboard-{audience}")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["metadata"]["annotations"] == {"grafana_folder": "Contracts"}
    source = (CHART / "files" / "dashboards" / f"{audience}.json").read_text(encoding="utf-8")
    assert json.loads(dashboard["data"][f"counterfoil-{audience}.json"]) == json.loads(source)


def test_alerts_are_those_of_the_file_and_lead_to_the_runbooks(everything: Rendered) -> None:
    rule = everything.one("PrometheusRule", RELEASE)["spec"]
    source = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    found, expected = (
        {each.get("alert"): each for group in rules["groups"] for each in group["rules"]}
        for rules in (rule, source)
    )
    assert found.keys() == expected.keys()
    for name, alert in found.items():
        if name is not None:
            assert alert["labels"] == {**expected[name]["labels"], "team": "archive"}
    urls = {each["annotations"]["runbook_url"] for each in found.values() if "annotations" in each}
    assert all(each.startswith("https://wiki.example.com/runbooks/") for each in urls)


def alert_rules(rendered: Rendered) -> list[dict[str, Any]]:
    groups = rendered.one("PrometheusRule", RELEASE)["spec"]["groups"]
    return [each for group in groups for each in group["rules"]]


async def test_without_other_values_the_rules_are_those_of_the_file(program: Helm) -> None:
    rendered = await render(program, {"prometheusRule": {"enabled": True}}, *MONITORING)
    # The file has the default objectives, and the paths of the runbooks.
    source = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    assert rendered.one("PrometheusRule", RELEASE)["spec"] == source


async def changed_alerts(program: Helm, changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    values = {"prometheusRule": {"enabled": True, "alerts": changes}}
    rules = alert_rules(await render(program, values, *MONITORING))
    return {each["alert"]: each for each in rules if "alert" in each}


async def test_an_alert_can_be_switched_off_delayed_and_labelled(program: Helm) -> None:
    changes: dict[str, Any] = {
        "CounterfoilConsentWaiting": {"enabled": False},
        "CounterfoilOldestUnfinished": {"for": "1h", "labels": {"severity": "critical", "team": "legal"}},
        "CounterfoilArchivingLate": {"enabled": False},
    }
    before, after = await changed_alerts(program, {}), await changed_alerts(program, changes)
    assert before.keys() - after.keys() == {"CounterfoilConsentWaiting", "CounterfoilArchivingLate"}
    oldest = after["CounterfoilOldestUnfinished"]
    assert (oldest["for"], oldest["labels"]) == ("1h", {"severity": "critical", "team": "legal"})
    assert oldest["expr"] == before["CounterfoilOldestUnfinished"]["expr"]
    others = after.keys() - changes.keys()
    assert {name: after[name] for name in others} == {name: before[name] for name in others}


THRESHOLDS = sorted(
    name
    for name, each in json.loads((CHART / "values.schema.json").read_text("utf-8"))["$defs"]["alerts"][
        "properties"
    ].items()
    if each["$ref"].endswith("alertAbove")
)


async def test_a_threshold_replaces_the_number_with_which_an_alert_compares_and_nothing_else(
    program: Helm,
) -> None:
    before = await changed_alerts(program, {})
    after = await changed_alerts(program, {name: {"threshold": 987654} for name in THRESHOLDS})
    for name in THRESHOLDS:
        old, new = before[name]["expr"], after[name]["expr"]
        compared = {float(each) for each in re.findall(r">=? ([0-9.]+)", old)}
        number = max(compared)
        assert re.sub(rf"(>=? ){number:g}(?![0-9.])", r"\g<1>987654", old) == new, name
        assert old != new
    assert "> 987654" in after["CounterfoilQuotaNearlyFull"]["expr"]
    assert after["CounterfoilEventsFailed"]["expr"].count("> 987654") == 2
    half = await changed_alerts(program, {"CounterfoilQuotaNearlyFull": {"threshold": 0.5}})
    assert half["CounterfoilQuotaNearlyFull"]["expr"].rstrip().endswith("> 0) > 0.5")


async def test_the_users_own_rules_are_part_of_the_prometheus_rule(everything: Rendered) -> None:
    groups = everything.one("PrometheusRule", RELEASE)["spec"]["groups"]
    assert groups[-1] == EVERYTHING["prometheusRule"]["extraGroups"][0]


async def test_an_objective_is_set_in_one_place(program: Helm) -> None:
    objectives = {"callbacksRecorded": 0.9995, "archivedInTime": 0.95}
    values = {"prometheusRule": {"enabled": True, "objectives": objectives}}
    rules = alert_rules(await render(program, values, *MONITORING))
    served = "counterfoil_build_info or counterfoil_namespace_ready"
    assert {
        each["record"]: each["expr"] for each in rules if each.get("record", "").endswith("objective")
    } == {
        "counterfoil:callbacks_recorded:objective": f"group by (namespace) ({served}) * 0.9995",
        "counterfoil:archived_in_time:objective": f"group by (namespace) ({served}) * 0.95",
    }


@pytest.mark.parametrize("share", [0.9, 1, 99.9, "0.99"])
async def test_an_objective_that_no_alert_can_follow_is_refused(program: Helm, share: object) -> None:
    with pytest.raises(HelmError, match="archivedInTime"):
        await render(program, {"prometheusRule": {"objectives": {"archivedInTime": share}}})


def test_traces_go_to_the_collector_and_nowhere_without_one(everything: Rendered, default: Rendered) -> None:
    for process in PROCESSES:
        endpoint = everything.environment(process)["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert endpoint == "http://collector.monitoring:4318"
        assert 4318 in ports(policy(everything, process)["egress"])
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in default.environment(process)
        assert 4318 not in ports(policy(default, process)["egress"])


# -- Floods and policies -------------------------------------------------------------------------------------


FIRST_QUOTA = f"{RELEASE}-first-quota"


def is_first_quota(job: dict[str, Any]) -> bool:
    """Whether a Job creates the first quota; another one creates the sealing key."""
    return str(job["metadata"]["name"]).startswith(FIRST_QUOTA)


KNOWN = "--api-versions=counterfoil.dev/v1beta1/EnvelopeEvent"
"""Helm's arguments for a cluster that has our kinds already."""
QUOTA = {"floodControl": {"quota": {"enabled": True}}}


@pytest.mark.parametrize(
    ("enabled", "flags", "expected"),
    [
        ("auto", (), set()),
        ("auto", (KNOWN,), set()),
        (True, (), {RELEASE}),
        (False, (KNOWN,), set()),
    ],
)
async def test_a_quota_is_part_of_the_release_only_if_the_values_enable_it(
    program: Helm, enabled: bool | str, flags: tuple[str, ...], expected: set[str]
) -> None:
    rendered = await render(program, {"floodControl": {"quota": {"enabled": enabled}}}, *flags)
    assert rendered.names("ResourceQuota") == expected


@pytest.mark.parametrize(
    ("enabled", "flags", "has_job"),
    [("auto", (), True), ("auto", (KNOWN,), True), (True, (), False), (False, (), False)],
)
async def test_otherwise_a_job_creates_the_quota_unless_the_values_disable_it(
    program: Helm, enabled: bool | str, flags: tuple[str, ...], has_job: bool
) -> None:
    rendered = await render(program, {"floodControl": {"quota": {"enabled": enabled}}}, *flags)
    assert any(map(is_first_quota, rendered.all("Job"))) is has_job
    assert (FIRST_QUOTA in rendered.names("Role")) is has_job


async def test_the_job_creates_the_quota_of_the_chart_with_the_rights_for_it_alone(
    program: Helm, default: Rendered
) -> None:
    (job,) = filter(is_first_quota, default.all("Job"))
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    compile(container["args"][0], "first_quota.py", "exec")
    assert json.loads(container["args"][1]) == (await render(program, QUOTA)).one("ResourceQuota", RELEASE)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    rules = default.one("Role", FIRST_QUOTA)["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} == {"resourcequotas"}
    assert [rule.get("resourceNames") for rule in rules] == [None, [RELEASE]]
    assert rules[0]["verbs"] == ["create"]


async def test_another_pod_makes_another_job_since_a_job_can_not_be_changed(
    program: Helm, default: Rendered, tmp_path: Path
) -> None:
    jobs = default.names("Job")
    assert (await render(program, {"image": {"tag": "other"}})).names("Job") != jobs
    assert (await render(program, {"receiver": {"replicas": 3}})).names("Job") == jobs
    # Also if the version stays the same, as while the chart is developed.
    changed = tmp_path / "counterfoil"
    shutil.copytree(CHART, changed)
    with (changed / "files" / "first_quota.py").open("a") as file:
        file.write("# changed\n")
    text = await program(
        *("template", RELEASE, changed, "-n", NAMESPACE, "--kube-version", KUBERNETES), values=with_image({})
    )
    assert Rendered(text).names("Job") != jobs


async def test_a_flood_does_not_fill_etcd(program: Helm) -> None:
    quota = (await render(program, QUOTA)).one("ResourceQuota", RELEASE)["spec"]["hard"]
    assert quota == {
        "count/envelopeevents.counterfoil.dev": "100000",
        "count/leases.coordination.k8s.io": "30000",
    }


def test_a_flood_does_not_fill_the_api_servers_queues(default: Rendered) -> None:
    schema = default.one("FlowSchema", f"{NAMESPACE}-{RELEASE}-receiver")["spec"]
    level = default.one("PriorityLevelConfiguration", schema["priorityLevelConfiguration"]["name"])
    assert level["spec"]["type"] == "Limited"
    assert schema["rules"][0]["subjects"][0]["serviceAccount"]["name"] == f"{RELEASE}-receiver"


async def test_flow_schema_and_policies_can_be_switched_off(program: Helm) -> None:
    rendered = await render(
        program,
        {"floodControl": {"flowSchema": {"enabled": False}}, "admissionPolicy": {"enabled": False}},
    )
    assert rendered.all("FlowSchema") == rendered.all("PriorityLevelConfiguration") == []
    assert rendered.all("ValidatingAdmissionPolicy") == rendered.all("ValidatingAdmissionPolicyBinding") == []


def test_the_policy_on_acts_has_their_form_as_console_and_plugin_write_it(default: Rendered) -> None:
    policy_ = default.one("ValidatingAdmissionPolicy", f"{NAMESPACE}-{RELEASE}-acts")["spec"]
    assert json.dumps(policy_).count(json.dumps(f"matches(r'{AUDIT_ANNOTATION_PATTERN}')")[1:-1]) == 2


async def test_without_pages_no_policy_holds_pages_to_anything(program: Helm) -> None:
    rendered = await render(program, {"pages": {"enabled": False}})
    policies = {
        f"{NAMESPACE}-{RELEASE}-{name}"
        for name in (
            *("noted", "labels", "status", "deliveries", "reports", "unlisted-actions", "shards", "requests"),
            *("patches", "secret-refs", "import-archives", "acts"),
        )
    }
    assert rendered.names("ValidatingAdmissionPolicy") == policies


def test_the_manual_has_the_number_of_policies(default: Rendered) -> None:
    numbers = {12: "twelve", 14: "fourteen"}
    policies = default.names("ValidatingAdmissionPolicy")
    page = (CHART.parents[1] / "docs" / "chart.md").read_text(encoding="utf-8")
    with_pages, without_pages = numbers[len(policies)], numbers[len(policies) - 2]
    assert f"- {with_pages} ValidatingAdmissionPolicies ({without_pages} without pages)" in page


def test_the_policy_on_references_knows_each_reference_of_the_definitions(default: Rendered) -> None:
    policy_ = default.one("ValidatingAdmissionPolicy", f"{NAMESPACE}-{RELEASE}-secret-refs")["spec"]
    texts = {each["name"]: each["expression"] for each in policy_["variables"]}
    refs, places = (
        {found.replace(".?", ".")[1:] for found in re.findall(r"variables\.after((?:\.\?\w+)+)", texts[name])}
        for name in ("refs", "places")
    )
    counts = []
    for kind in ("organizations", "senders", "archives"):
        found = dict(_secret_refs(_spec_schema(kind)))
        counts.append(sum(found.values()))
        for path in found:
            place, _, name = path.rpartition(".")
            assert path in refs or (place in places and f"each.{name}.name" in texts["named"]), path
    # Of an Archive only one kind is set, so an Organization has the most.
    checks = [each for each in policy_["validations"] if "resource('secrets')" in each["expression"]]
    assert len(checks) == counts[0]
    assert f"<= {counts[0]}" in policy_["validations"][1]["expression"]


def _spec_schema(plural: str) -> dict[str, Any]:
    definition = yaml.safe_load((CHART / "files" / "crds" / f"{plural}.yaml").read_text(encoding="utf-8"))
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(schema["properties"]["spec"])


def _secret_refs(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, int]]:
    """Yield the path of each reference to a Secret, and how many there may be."""
    for name, each in schema.get("properties", {}).items():
        here = f"{path}.{name}".removeprefix(".")
        if name.endswith(("SecretRef", "SecretRefs")):
            yield here, each.get("maxItems", 1)
        else:
            yield from _secret_refs(each, here)
            yield from _secret_refs(each.get("items", {}), here)


async def test_an_api_server_without_admission_policies_is_refused_or_reported(program: Helm) -> None:
    # With a Pod in the list, the list is what a cluster serves; helm template alone has no kinds in its list.
    served = ("--api-versions=v1/Pod",)
    with pytest.raises(HelmError, match="does not serve ValidatingAdmissionPolicies"):
        await render(program, {}, *served)
    policies = "--api-versions=admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"
    assert (await render(program, {}, *served, policies)).all("ValidatingAdmissionPolicy")
    without = await render(program, {"admissionPolicy": {"enabled": False}}, *served)
    assert without.all("ValidatingAdmissionPolicy") == []


@without_helm_3
@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({}, ""),
        ({"clusterScoped": False}, "WARNING: No admission policies are installed."),
        ({"admissionPolicy": {"enabled": False}}, "WARNING: No admission policies are installed."),
        ({"admissionPolicy": {"actions": ["Warn"]}}, "WARNING: admissionPolicy.actions has no Deny."),
    ],
)
async def test_the_notes_warn_if_no_policy_keeps_secrets_in_place(
    program: Helm, values: dict[str, Any], warning: str
) -> None:
    said = await program(
        "install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", values=with_image(values)
    )
    notes = said.partition("NOTES:")[2]
    assert warning in notes
    assert bool(warning) == ("olicies" in notes)


def test_every_policy_is_bound_to_the_namespace_of_the_release(everything: Rendered) -> None:
    bound = {each["spec"]["policyName"] for each in everything.all("ValidatingAdmissionPolicyBinding")}
    assert bound == everything.names("ValidatingAdmissionPolicy")
    for each in everything.all("ValidatingAdmissionPolicyBinding"):
        assert each["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"] == [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [NAMESPACE]}
        ]
        assert each["spec"]["validationActions"] == ["Warn", "Audit"]


@pytest.mark.parametrize(
    "values", [{}, {"pages": {"enabled": False}}, {"admissionPolicy": {"enabled": False}}, WITHOUT_CLUSTER]
)
async def test_the_controller_says_which_policies_the_release_has(
    program: Helm, values: dict[str, Any]
) -> None:
    """``kubectl counterfoil status`` compares them with those of the cluster."""
    rendered = await render(program, values)
    said = rendered.pod("controller")["metadata"]["annotations"].get(POLICIES_ANNOTATION, "")
    assert set(said.split()) == rendered.names("ValidatingAdmissionPolicy")


TYPED_ON_A_NODE = "start.md"
"""Its commands have variables; tests/e2e/test_node_start.py types them."""
MANUAL = sorted((CHART.parents[1] / "docs").glob("*.md"))
PAGES = (
    CHART.parents[1] / "README.md",
    CHART / "README.md",
    *(each for each in MANUAL if each.name != TYPED_ON_A_NODE),
)
INSTALLATIONS = sorted(
    {
        found[0].replace("\\\n", " ")
        for page in PAGES
        for found in re.finditer(
            r"helm (?:install|upgrade|template) \w+ charts/counterfoil(?:[^`\n]*\\\n)*[^`\n]+",
            page.read_text(encoding="utf-8"),
        )
    }
)


@pytest.mark.parametrize("command", INSTALLATIONS)
async def test_each_command_of_the_manual_that_installs_the_chart_works_as_it_is_written(
    program: Helm, command: str
) -> None:
    _, _, release, _, *flags = shlex.split(command)
    # Helm 3 installs nothing without a cluster, and renders with the same arguments.
    ways = ("template",) if IS_HELM_3 else ("install", "--dry-run=client")
    said = await program(*ways, release, CHART, *flags)
    settings = dict(each.split("=", 1) for flag in flags for each in flag.split(",") if "=" in each)
    # The values of the trial name its image.
    repository = settings.get("image.repository", "localhost/counterfoil-trial")
    assert f"image: {repository}:" in said


# -- The rest ------------------------------------------------------------------------------------------------


def test_more_objects_are_installed_and_run_as_templates(everything: Rendered) -> None:
    assert {f"{RELEASE}-object", f"{RELEASE}-text"} <= everything.names("ConfigMap")


def test_the_helm_test_asks_every_process_that_has_a_public_port(default: Rendered) -> None:
    container = default.pod("test")["spec"]["containers"][0]
    assert {each.partition("=")[0] for each in container["args"][1:]} == set(PROCESSES) - {"controller"}
    compile(container["args"][0], "ask.py", "exec")


@without_helm_3
async def test_the_notes_say_what_is_next(program: Helm) -> None:
    notes = await program(
        "install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", values=with_image({})
    )
    for words in (
        "helm -n contracts test",
        "callbackURLs.envelope",
        "Keep a copy of the sealing keys",
        "A Job creates the quota",
        "OpenShift needs openshift=true",
    ):
        assert words in notes
    for path in ("docs/", "charts/"):
        assert path not in notes.partition("NOTES:")[2], "who installed from a registry has no clone"


@without_helm_3
@pytest.mark.parametrize(
    ("crds", "words"),
    [
        ({}, "kubectl get organizations --all-namespaces"),
        ({"keep": False}, "WARNING: crds.keep is false."),
    ],
)
async def test_the_notes_say_that_all_releases_share_the_definitions(
    program: Helm, crds: dict[str, Any], words: str
) -> None:
    values = with_image({"crds": crds})
    said = await program(
        "install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", values=values
    )
    assert words in said.partition("NOTES:")[2]


@without_helm_3
@pytest.mark.parametrize("enabled", [True, False])
async def test_the_notes_say_nothing_of_a_quota_about_which_the_values_decide(
    program: Helm, enabled: bool
) -> None:
    values = {"floodControl": {"quota": {"enabled": enabled}}}
    notes = await program(
        "install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", values=with_image(values)
    )
    assert "quota" not in notes.partition("NOTES:")[2]


async def test_names_can_be_chosen(program: Helm) -> None:
    rendered = await render(program, {"fullnameOverride": "filing"})
    assert rendered.names("Deployment") == {
        "filing-receiver",
        "filing-pages",
        "filing-console",
        "filing-controller",
    }


async def test_the_chart_can_be_part_of_another(program: Helm) -> None:
    await render(program, {"global": {"anything": "theirs"}})


async def test_a_kubernetes_without_selectable_fields_is_refused(program: Helm) -> None:
    with pytest.raises(HelmError, match=r"1\.31"):
        await program("template", CHART, "--kube-version", "1.30.0")


RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def with_init_container(**changes: Any) -> dict[str, Any]:
    """Return values with a container that runs before the process, with this in its security context."""
    container = {"name": "certificates", "image": "ca", "securityContext": {**RESTRICTED, **changes}}
    return {"extraPodSpec": {"initContainers": [container]}}


@pytest.mark.parametrize(
    "values",
    [
        {"extraPodSpec": {"hostNetwork": True}},
        {"extraPodSpec": {"hostPID": True}},
        {"extraPodSpec": {"hostIPC": True}},
        {"extraPodSpec": {"shareProcessNamespace": True}},
        {"extraPodSpec": {"serviceAccount": "other"}},
        {"extraPodSpec": {"ephemeralContainers": []}},
        {"extraPodSpec": {"initContainers": [{"name": "certificates", "image": "ca"}]}},
        with_init_container(privileged=True),
        with_init_container(allowPrivilegeEscalation=True),
        with_init_container(capabilities={"drop": ["NET_RAW"]}),
        with_init_container(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        with_init_container(procMount="Unmasked"),
        with_init_container(runAsUser=0),
        with_init_container(runAsNonRoot=False),
        with_init_container(seccompProfile={"type": "Unconfined"}),
        {
            "extraPodSpec": {
                "initContainers": [
                    {
                        "name": "ca",
                        "image": "ca",
                        "securityContext": RESTRICTED,
                        "ports": [{"containerPort": 80, "hostPort": 80}],
                    }
                ]
            }
        },
        {"receiver": {"extraContainers": [{"name": "shipper", "image": "shipper"}]}},
        {
            "receiver": {
                "extraContainers": [
                    {"name": "shipper", "image": "s", "securityContext": {**RESTRICTED, "privileged": True}}
                ]
            }
        },
        {"securityContext": {"privileged": True}},
        {"securityContext": {"allowPrivilegeEscalation": True}},
        {"securityContext": {"readOnlyRootFilesystem": False}},
        {"securityContext": {"capabilities": {"drop": []}}},
        {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
        {"podSecurityContext": {"runAsNonRoot": False}},
        {"podSecurityContext": {"runAsUser": 0}},
        {"podSecurityContext": {"seccompProfile": {"type": "Unconfined"}}},
        {"podSecurityContext": {"windowsOptions": {"hostProcess": True}}},
    ],
    ids=json.dumps,
)
async def test_no_value_weakens_the_security_of_a_pod(program: Helm, values: dict[str, Any]) -> None:
    with pytest.raises(HelmError, match=r"(?i)schema"):
        await render(program, values)


async def test_a_setting_below_its_bound_is_refused_before_anything_is_installed(program: Helm) -> None:
    below = {
        f"{part}.settings.{name}": _below(bound, hint)
        for part, kind in PARTS.items()
        for name, bound, hint in _bounded(kind)
    }
    values: dict[str, Any] = {}
    for path, value in below.items():
        part, settings, name = path.split(".")
        values.setdefault(part, {}).setdefault(settings, {})[name] = value

    with pytest.raises(HelmError, match=r"(?i)schema") as refused:
        await render(program, values)
    assert [path for path in below if path not in str(refused.value).replace("/", ".")] == []


async def test_a_setting_at_its_bound_is_rendered(program: Helm) -> None:
    values = {
        part: {"settings": {name: _written(bound, hint) for name, bound, hint in _bounded(kind)}}
        for part, kind in PARTS.items()
    }
    # Each of these times has to be longer than the next one.
    values["controller"]["settings"] |= {"leaseDuration": "3s", "renewDeadline": "2s"}
    rendered = await render(program, {**values, "console": {"enabled": True, **values["console"]}})
    assert rendered.environment("receiver")["COUNTERFOIL_CONNECTIONS"] == "2"


PARTS = {name.removesuffix("Settings"): kind for name, kind in SETTINGS.items() if kind is not CommonSettings}


def _bounded(kind: type[CommonSettings]) -> Iterator[tuple[str, float, type]]:
    """Go through the settings of a process that are values and have a minimum: name, minimum and type."""
    for each in describe_settings(kind):
        if each.at_least is not None and each.name not in MADE_BY_THE_CHART:
            yield camel(each.name), each.at_least, get_type_hints(kind)[each.name]


def _written(bound: float, hint: type) -> Any:
    """Return a number or a duration in seconds as a value of the chart."""
    return f"{bound:g}s" if hint is Duration else bound


def _below(bound: float, hint: type) -> Any:
    """Return a value a little below a bound."""
    return bound - 1 if hint is int else _written(bound - 0.01, hint)


@pytest.mark.parametrize(
    "values",
    [
        {
            "extraPodSpec": {
                "hostAliases": [{"ip": "10.3.0.7", "hostnames": ["esaw.example.com"]}],
                "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
                "runtimeClassName": "gvisor",
                "schedulerName": "other",
                "hostUsers": False,
            }
        },
        with_init_container(),
        with_init_container(readOnlyRootFilesystem=False),
        with_init_container(runAsUser=1000, seccompProfile={"type": "RuntimeDefault"}),
        {"podSecurityContext": {"runAsUser": 1000680000, "fsGroup": 1000680000}},
        {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
        {"podSecurityContext": {"fsGroupChangePolicy": "OnRootMismatch", "supplementalGroups": [7]}},
    ],
    ids=json.dumps,
)
async def test_a_pod_takes_fields_that_do_not_weaken_it(program: Helm, values: dict[str, Any]) -> None:
    await render(program, values)


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "more pods at least than at most": (
        {"receiver": {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 8}}},
        "receiver.autoscaling.minReplicas is 9 and maxReplicas is 8: set maxReplicas to 9 or more.",
    ),
    "killed while it completes its requests": (
        {"receiver": {"terminationGracePeriodSeconds": 1}},
        "receiver.terminationGracePeriodSeconds is 1, but drain and grace of receiver.settings take 25 s "
        "together: set it to 26 or more.",
    ),
    "killed while it completes its requests, by a longer drain": (
        {"pages": {"settings": {"drain": "1m10.5s"}}},
        "pages.terminationGracePeriodSeconds is 40, but drain and grace of pages.settings take 90.5 s "
        "together: set it to 91 or more.",
    ),
    "killed while it releases its shards": (
        {"controller": {"terminationGracePeriodSeconds": 20}},
        "controller.terminationGracePeriodSeconds is 20, but grace of controller.settings takes 20 s: set it "
        "to 21 or more.",
    ),
    "scraped twice": (
        {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}},
        "podMonitor.enabled and serviceMonitor.enabled are both true, so Prometheus would count each pod "
        "twice: set one of them to false.",
    ),
    "two volumes of keys": (
        {"sealingKeys": {"existingSecret": "keys", "volume": {"csi": {"driver": "vault"}}}},
        "sealingKeys.volume replaces the Secrets: remove sealingKeys.existingSecret and "
        "sealingKeys.extraSecrets, or the volume.",
    ),
    "a console without an Ingress for it": (
        {"console": {"enabled": False, "ingress": {"enabled": True, "host": "console.example.com"}}},
        "console.ingress.enabled is true, but console.enabled is false: set both to the same.",
    ),
    "a console without a route for it": (
        {"console": {"enabled": False, "httpRoute": {"enabled": True}}},
        "console.httpRoute.enabled is true, but console.enabled is false: set both to the same.",
    ),
    "sessions of one pod": (
        {"console": {"replicas": 2}},
        "console.replicas is 2, but console.sessionKeysSecret is empty, so a session would end at each "
        "request to another pod: name a Secret there, or set console.replicas to 1.",
    ),
    "an Ingress for every host": (
        {"ingress": {"enabled": True}},
        "ingress.enabled is true, but ingress.host is empty: set it to the host name in callback URLs.",
    ),
    "an Ingress of the console for every host": (
        {"console": {"ingress": {"enabled": True}}},
        "console.ingress.enabled is true, but console.ingress.host is empty: set it to the console's host "
        "name.",
    ),
    "a route of no gateway": (
        {"httpRoute": {"enabled": True, "hostnames": ["callbacks.example.com"]}},
        "httpRoute.enabled is true, but httpRoute.parentRefs is empty: name the Gateway there.",
    ),
    "a route of the console for every host": (
        {"console": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "inside"}]}}},
        "console.httpRoute.enabled is true, but console.httpRoute.hostnames is empty: name the host there.",
    ),
    "callback URLs with a wildcard": (
        {"ingress": {"enabled": True, "host": "*.example.com"}},
        "*.example.com is no host name for callback URLs: set controller.settings.callbackUrl, such as "
        "https://callbacks.example.com.",
    ),
    "a policy that denies and warns": (
        {"admissionPolicy": {"actions": ["Deny", "Warn"]}},
        "admissionPolicy.actions has Deny and Warn, which the API server refuses: remove Warn, or use "
        "[Deny, Audit].",
    ),
}

MISREAD: dict[str, tuple[dict[str, Any], str]] = {
    "an address as the host": (
        {"ingress": {"enabled": True, "host": "https://callbacks.example.com/"}},
        "ingress.host is https://callbacks.example.com/, and takes a host name alone: set it to "
        "callbacks.example.com.",
    ),
    "a port in the console's host": (
        {"console": {"ingress": {"enabled": True, "host": "console.example.com:8443"}}},
        "console.ingress.host is console.example.com:8443, and takes a host name alone: set it to "
        "console.example.com.",
    ),
    "an address as the host of a route": (
        {
            "httpRoute": {
                "enabled": True,
                "hostnames": ["https://callbacks.example.com"],
                "parentRefs": [{"name": "gw"}],
            }
        },
        "httpRoute.hostnames[0] is https://callbacks.example.com, and takes a host name alone: set it to "
        "callbacks.example.com.",
    ),
    "a host as the address": (
        {"controller": {"settings": {"callbackUrl": "callbacks.example.com"}}},
        "controller.settings.callbackUrl is callbacks.example.com, and takes the address of the receiver "
        "alone: set it to https://callbacks.example.com.",
    ),
    "a whole callback URL as the address": (
        {"controller": {"settings": {"callbackUrl": "https://a.example/esaw/callbacks/acme/token?x=1"}}},
        "takes the address of the receiver alone: set it to https://a.example/esaw.",
    ),
    "a tag in the name of the image": (
        {"image": {"repository": "registry.example.com:5000/counterfoil:1.0"}},
        "image.repository is registry.example.com:5000/counterfoil:1.0, with a tag: set "
        "image.repository=registry.example.com:5000/counterfoil and image.tag=1.0.",
    ),
    "a digest in the name of the image": (
        {"image": {"repository": "counterfoil@sha256:ab"}},
        "with a digest: set image.repository=counterfoil and image.digest=sha256:ab.",
    ),
    "as many available pods as there are": (
        {"pages": {"podDisruptionBudget": {"minAvailable": 2}}},
        "pages.podDisruptionBudget.minAvailable is 2 and replicas is 2, so no node with such a pod could be "
        "drained: set pages.replicas to 3 or more.",
    ),
    "as many available pods as autoscaling begins with": (
        {
            "receiver": {
                "replicas": 9,
                "autoscaling": {"enabled": True},
                "podDisruptionBudget": {"minAvailable": 2},
            }
        },
        "receiver.podDisruptionBudget.minAvailable is 2 and autoscaling.minReplicas is 2, so no node with "
        "such a pod could be drained: set receiver.autoscaling.minReplicas to 3 or more.",
    ),
    "no pod that a drain may take": (
        {"pages": {"podDisruptionBudget": {"maxUnavailable": 0}}},
        "pages.podDisruptionBudget.maxUnavailable is 0, so no node with such a pod could be drained: "
        "set it to 1 or more.",
    ),
    "no part of the pods that a drain may take": (
        {"controller": {"podDisruptionBudget": {"maxUnavailable": "0%"}}},
        "controller.podDisruptionBudget.maxUnavailable is 0%, so no node with such a pod could be "
        "drained: set it to 1 or more.",
    ),
    "more memory requested than allowed": (
        {"receiver": {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "900Mi"}}}},
        "receiver.resources.requests.memory is 1Gi and limits.memory is 900Mi, which the API server refuses: "
        "set receiver.resources.limits.memory to 1Gi or more.",
    ),
    "more CPU requested than allowed": (
        {"controller": {"resources": {"requests": {"cpu": 1.5}, "limits": {"cpu": "1250m"}}}},
        "controller.resources.requests.cpu is 1.5 and limits.cpu is 1250m, which the API server refuses: "
        "set controller.resources.limits.cpu to 1.5 or more.",
    ),
    "an address in place of a network": (
        {"networkPolicy": {"egress": {"apiServer": {"to": [{"ipBlock": {"cidr": "10.1.2.3"}}]}}}},
        "networkPolicy.egress.apiServer.to[0].ipBlock.cidr is 10.1.2.3, and takes a network: set it to "
        "10.1.2.3/32.",
    ),
    "an address of IPv6 in place of a network": (
        {"networkPolicy": {"metricsFrom": [{"podSelector": {}}, {"ipBlock": {"cidr": "fd00::1"}}]}},
        "networkPolicy.metricsFrom[1].ipBlock.cidr is fd00::1, and takes a network: set it to fd00::1/128.",
    ),
    "a provider at a port that is closed": (
        {
            "console": {
                "settings": {
                    "oidcIssuer": "https://login.example.com:8443/realm",
                    "oidcClientId": "c",
                    "publicUrl": "https://console.example.com",
                }
            }
        },
        "console.settings.oidcIssuer is at port 8443, which networkPolicy.egress.oidc.ports does not open: "
        "add 8443 there.",
    ),
    "a Lease that ends before its holder stops": (
        {"controller": {"settings": {"leaseDuration": "10s"}}},
        "controller.settings.renewDeadline is 10s and leaseDuration is 10s, so two controllers could work on "
        "one shard: set renewDeadline to less.",
    ),
    "a Lease that can't be renewed in time": (
        {"controller": {"settings": {"retryPeriod": "9s"}}},
        "controller.settings.retryPeriod is 9s and renewDeadline is 10s, so no Lease could be renewed in "
        "time: set retryPeriod to less.",
    ),
    "a holder that waits too long between two renewals": (
        {"controller": {"settings": {"leaseDuration": "10m", "renewDeadline": "5m", "retryPeriod": "61s"}}},
        "controller.settings.retryPeriod is 61s, so people would see the holder of a Lease as gone: set it "
        "to 60s or less.",
    ),
    "a Lease that lasts too long": (
        {"controller": {"settings": {"leaseDuration": "61m"}}},
        "controller.settings.leaseDuration is 61m, and other controllers wait no longer than an hour: set it "
        "to 1h or less.",
    ),
    "a Lease of a part of a second": (
        {"controller": {"settings": {"leaseDuration": "15500ms"}}},
        "controller.settings.leaseDuration is 15500ms, and takes whole seconds: set it to 16s.",
    ),
    "a provider without a client": (
        {"console": {"settings": {"oidcIssuer": "https://login.example.com"}}},
        "console.settings.oidcIssuer is set, but console.settings.oidcClientId is empty: set it to the "
        "console's client id at the provider.",
    ),
    "a provider without an address to return to": (
        {"console": {"settings": {"oidcIssuer": "https://login.example.com", "oidcClientId": "c"}}},
        "console.settings.oidcIssuer is set, but console.settings.publicUrl is empty: set it to the "
        "console's address, such as https://console.example.com.",
    ),
    "a provider behind a proxy": (
        {"console": {"settings": {"oidcIssuer": "https://login.example.com", "signIn": "proxy"}}},
        "console.settings.oidcIssuer is set, but with console.settings.signIn=proxy the proxy signs users "
        "in: remove one of them.",
    ),
}


@pytest.mark.parametrize(
    "values",
    [
        {"controller": {"settings": {"callbackUrl": "http://esaw-proxy.intern:8080/counterfoil"}}},
        {"receiver": {"podDisruptionBudget": {"minAvailable": "50%"}}},
        {"pages": {"replicas": 1, "podDisruptionBudget": {"minAvailable": 1, "enabled": False}}},
        {"controller": {"settings": {"leaseDuration": "11s", "retryPeriod": "8s"}}},
        {"image": {"repository": "registry.example.com:5000/team/counterfoil"}},
        {"pages": {"podDisruptionBudget": {"maxUnavailable": 0, "enabled": False}}},
        {"pages": {"podDisruptionBudget": {"maxUnavailable": "1%"}}},
        {"receiver": {"resources": {"requests": {"memory": "1e9"}, "limits": {"memory": "1G"}}}},
        {"receiver": {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 0.5}}}},
        {"receiver": {"resources": {"requests": {"memory": 1073741824}, "limits": {"memory": "1Gi"}}}},
        {
            "console": {
                "settings": {
                    "oidcIssuer": "https://login.example.com",
                    "oidcClientId": "c",
                    "publicUrl": "https://console.example.com",
                }
            }
        },
        {
            "networkPolicy": {"enabled": False},
            "console": {
                "settings": {
                    "oidcIssuer": "https://login.example.com:8443",
                    "oidcClientId": "c",
                    "publicUrl": "https://console.example.com",
                }
            },
        },
    ],
    ids=json.dumps,
)
async def test_values_beside_those_that_are_refused_are_rendered(
    program: Helm, values: dict[str, Any]
) -> None:
    assert (await render(program, values)).all("Deployment")


REFUSED = {**CONTRADICTIONS, **MISREAD}


@pytest.mark.parametrize(("values", "said"), REFUSED.values(), ids=REFUSED)
async def test_values_with_which_nothing_would_work_are_refused_with_what_to_type(
    program: Helm, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(HelmError) as refused:
        await render(program, values, *MONITORING)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {"controller": {"extraVolumes": [{"name": "dms", "hostPath": {"path": "/"}}]}},
        {"receiver": {"extraVolumes": [{"name": "dms", "nfs": {"server": "dms", "path": "/"}}]}},
        {"sealingKeys": {"volume": {"hostPath": {"path": "/etc"}}}},
        {"extraPodSpec": {"activeDeadlineSeconds": 60}},
    ],
    ids=json.dumps,
)
async def test_no_volume_is_of_a_kind_that_pod_security_restricted_refuses(
    program: Helm, values: dict[str, Any]
) -> None:
    with pytest.raises(HelmError, match=r"(?i)schema"):
        await render(program, values)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"receiving": {}}, "receiving"),
        ({"receiver": {"replica": 3}}, "replica"),
        ({"receiver": {"replicas": 0}}, "/receiver/replicas"),
        ({"receiver": {"autoscaling": {"behavior": {"scaleSideways": {}}}}}, "scaleSideways"),
        ({"receiver": {"settings": {"callbackrate": 5}}}, "callbackrate"),
        ({"receiver": {"settings": {"grace": 20}}}, "/receiver/settings/grace"),
        ({"receiver": {"settings": {"grace": "soon"}}}, "/receiver/settings/grace"),
        ({"controller": {"shards": 65}}, "/controller/shards"),
        ({"controller": {"replicas": 0}}, "/controller/replicas"),
        ({"controller": {"strategy": "Sideways"}}, "/controller/strategy"),
        ({"controller": {"settings": {"identity": "me"}}}, "identity"),
        ({"settings": {"logLevel": "loud"}}, "/settings/logLevel"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"image": {"tag": "a tag"}}, "/image/tag"),
        ({"image": {"repository": "counter foil"}}, "/image/repository"),
        ({"prometheusRule": {"alerts": {"CounterfoilNothing": {"enabled": False}}}}, "CounterfoilNothing"),
        ({"prometheusRule": {"alerts": {"CounterfoilArchiveNotReady": {"threshold": 5}}}}, "threshold"),
        ({"podMonitor": {"endpoint": {"port": "http"}}}, "/podMonitor/endpoint"),
        ({"receiver": {"service": {"extraSpec": {"selector": {}}}}}, "selector"),
        ({"receiver": {"probes": {"liveness": {"httpGet": {}}}}}, "httpGet"),
        ({"podMonitor": {"renderMode": "perhaps"}}, "/podMonitor/renderMode"),
        ({"networkPolicy": {"egress": {"esaw": {"ports": ["https"]}}}}, "/networkPolicy/egress/esaw/ports"),
        ({"networkPolicy": {"egress": {"dms": {}}}}, "dms"),
        ({"floodControl": {"quota": {"envelopeEvents": 10}}}, "envelopeEvents"),
        ({"floodControl": {"quota": {"leases": 100}}}, "leases"),
        ({"floodControl": {"quota": {"enabled": "soon"}}}, "/floodControl/quota/enabled"),
        ({"admissionPolicy": {"actions": ["Deny", "Maybe"]}}, "/admissionPolicy/actions"),
        ({"admissionPolicy": {"statusWriters": ["a' in ['a"]}}, "/admissionPolicy/statusWriters"),
        ({"admissionPolicy": {"secretRefWriters": ["a' in ['a"]}}, "/admissionPolicy/secretRefWriters"),
        ({"admissionPolicy": {"webhookKeys": ["a' in ['a/"]}}, "/admissionPolicy/webhookKeys"),
        ({"admissionPolicy": {"webhookKeys": [""]}}, "/admissionPolicy/webhookKeys"),
        ({"receiver": {"resources": {"limit": {}}}}, "limit"),
        ({"receiver": {"resources": {"limits": {"memory": "much"}}}}, "/receiver/resources"),
        ({"extraEnv": [{"value": "nameless"}]}, "/extraEnv/0"),
        ({"extraPodSpec": {"securityContext": {}}}, "securityContext"),
        ({"topologySpread": {"whenUnsatisfiable": "Never"}}, "/topologySpread"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
async def test_values_that_mean_nothing_are_refused(
    program: Helm, values: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(HelmError, match=complaint):
        await render(program, values)
