"""The chart, rendered: its objects by kind and name, and the pods in them."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from release.helm import CHART, Helm
from sandbox.controlplane.binaries import module_of

RELEASE = "counterfoil"
NAMESPACE = "contracts"
KUBERNETES = "1.35.4"

REPOSITORY = "registry.example.com/counterfoil"

Object = dict[str, Any]

IS_HELM_3 = module_of("helm").version.startswith("3.")
"""``make matrix`` runs the tests of the chart with Helm 3, too."""

WITH_CLUSTER = ("--dry-run=server", "--validate") if IS_HELM_3 else ("--dry-run=server",)
"""Helm's arguments for a rendering that asks the cluster. Helm 3 needs both to see which kinds it has."""

TAKE_BACK = () if IS_HELM_3 else ("--force-conflicts",)
"""Helm's argument for an upgrade of fields that somebody else has set. In Helm 3 a field has no owner."""

without_helm_3 = pytest.mark.skipif(IS_HELM_3, reason="Helm 3 shows no notes without a cluster")


def with_image(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with an image, without which the chart renders nothing; theirs if they have one."""
    return {**values, "image": {"repository": REPOSITORY, **values.get("image", {})}}


class Rendered:
    """Output of ``helm template``."""

    def __init__(self, text: str) -> None:
        self.text = text
        # PyYAML's loader in C: the other one takes half a second for a chart.
        loaded = yaml.load_all(text, Loader=yaml.CSafeLoader)
        self.objects: list[Object] = [each for each in loaded if each]

    def all(self, kind: str) -> list[Object]:
        """Return all objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """Return the one object of this kind and name."""
        found = [each for each in self.all(kind) if each["metadata"]["name"] == name]
        assert len(found) == 1, f"{kind}/{name}: there are {len(found)}, of {self.names(kind)}"
        return found[0]

    def names(self, kind: str) -> set[str]:
        """Return the names of all objects of a kind."""
        return {each["metadata"]["name"] for each in self.all(kind)}

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Go through all pods, with the component that each is."""
        for each in self.objects:
            pod = each if each["kind"] == "Pod" else each.get("spec", {}).get("template", {})
            if "containers" in pod.get("spec", {}):
                yield pod["metadata"]["labels"]["app.kubernetes.io/component"], pod

    def pod(self, component: str) -> Object:
        """Return the pod of one component."""
        return dict(self.pods())[component]

    def environment(self, component: str) -> dict[str, Any]:
        """Return the environment of a component's container: values, or where they come from."""
        variables = self.pod(component)["spec"]["containers"][0]["env"]
        return {each["name"]: each.get("value", each.get("valueFrom")) for each in variables}


async def render(
    helm: Helm, values: Mapping[str, Any] | None = None, *flags: str, release: str = RELEASE
) -> Rendered:
    """Render the chart with values, and with an image, on top of its defaults."""
    text = await helm(
        "template",
        release,
        CHART,
        "--namespace",
        NAMESPACE,
        "--kube-version",
        KUBERNETES,
        *flags,
        values=with_image(values or {}),
    )
    return Rendered(text)


MONITORING = tuple(
    f"--api-versions=monitoring.coreos.com/v1/{kind}"
    for kind in ("PodMonitor", "ServiceMonitor", "PrometheusRule")
)
"""Helm's arguments for a cluster that has the kinds of the Prometheus operator."""

WITHOUT_CLUSTER = {"clusterScoped": False}

EVERYTHING: dict[str, Any] = {
    "commonLabels": {"team": "legal"},
    "podAnnotations": {"example.com/injected": "no"},
    "podLabels": {"cost": "4711"},
    "image": {"repository": "registry.example.com/counterfoil", "digest": f"sha256:{'a' * 64}"},
    "imagePullSecrets": [{"name": "pull"}],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "sealingKeys": {"existingSecret": "keys", "extraSecrets": ["keys-2027"]},
    "manifestKey": {"existingSecret": "manifest", "key": "seal.pem"},
    "extraPodSpec": {"hostAliases": [{"ip": "10.3.0.7", "hostnames": ["esaw.example.com"]}]},
    "priorityClassName": "business",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "rack", "labelSelector": {}}}
            ]
        }
    },
    "receiver": {
        "autoscaling": {
            "enabled": True,
            "minReplicas": 3,
            "maxReplicas": 9,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
        },
        "settings": {"callbackRate": 1000000, "callbackBurst": 2000, "drain": "10s"},
        "service": {
            "type": "LoadBalancer",
            "port": 8080,
            "annotations": {"example.com/internal": "true"},
            "labels": {"exposed": "yes"},
            "extraSpec": {
                "loadBalancerClass": "example.com/inside",
                "externalTrafficPolicy": "Local",
                "ipFamilyPolicy": "PreferDualStack",
            },
        },
        "podDisruptionBudget": {"minAvailable": 2},
        "deploymentAnnotations": {"example.com/reload": "true"},
        "extraEnvFrom": [{"secretRef": {"name": "proxy"}}],
        "extraContainers": [
            {
                "name": "shipper",
                "image": "registry.example.com/shipper:1",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": {
                    "requests": {"cpu": "10m", "memory": "16Mi", "ephemeral-storage": "16Mi"},
                    "limits": {"memory": "16Mi", "ephemeral-storage": "128Mi"},
                },
            }
        ],
        "probes": {"readiness": {"periodSeconds": 5}, "startup": {"failureThreshold": 120}},
        "serviceAccount": {"annotations": {"example.com/role": "receiver"}},
        "extraEnv": [{"name": "TZ", "value": "Europe/Vienna"}],
        "topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
    },
    "console": {
        "replicas": 2,
        "sessionKeysSecret": "sessions",
        "ingress": {"enabled": True, "host": "console.example.com", "tlsSecret": "console-tls"},
        "httpRoute": {
            "enabled": True,
            "annotations": {"example.com/route": "inside"},
            "hostnames": ["console.example.com"],
            "parentRefs": [{"name": "inside"}],
        },
    },
    "controller": {
        "shards": 3,
        "replicas": 4,
        "extraVolumes": [{"name": "dms", "persistentVolumeClaim": {"claimName": "dms"}}],
        "extraVolumeMounts": [{"name": "dms", "mountPath": "/archive"}],
    },
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "host": "callbacks.example.com",
        "tlsSecret": "callbacks-tls",
        "annotations": {"example.com/limit": "10"},
    },
    "httpRoute": {
        "enabled": True,
        "annotations": {"example.com/route": "outside"},
        "hostnames": ["callbacks.example.com"],
        "parentRefs": [{"name": "public", "namespace": "gateways"}],
    },
    "networkPolicy": {
        "publicFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
        "consoleFrom": [{"ipBlock": {"cidr": "10.1.0.0/16"}}],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "egress": {"apiServer": {"to": [{"ipBlock": {"cidr": "10.2.0.1/32"}}], "ports": [6443]}},
        "extraEgress": [{"ports": [{"port": 4317, "protocol": "TCP"}]}],
    },
    "crds": {"annotations": {"example.com/sync-wave": "-1"}},
    "podMonitor": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "endpoint": {
            "scrapeTimeout": "10s",
            "honorLabels": True,
            "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "python_gc_.*", "action": "drop"}],
        },
    },
    "prometheusRule": {
        "enabled": True,
        "runbooks": "https://wiki.example.com/runbooks/",
        "alertLabels": {"team": "archive"},
        "extraGroups": [{"name": "ours", "rules": [{"record": "ours:one", "expr": "vector(1)"}]}],
    },
    "tracing": {"endpoint": "http://collector.monitoring:4318"},
    "grafanaDashboard": {"enabled": True, "annotations": {"grafana_folder": "Contracts"}},
    "floodControl": {"quota": {"enabled": True}},
    "admissionPolicy": {
        "actions": ["Warn", "Audit"],
        "statusWriters": ["system:serviceaccount:velero:velero"],
        "secretRefWriters": ["system:serviceaccount:argocd:argocd-application-controller"],
        "webhookKeys": ["policies.kyverno.io/", "labels.example/"],
    },
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-object"}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-text\n",
    ],
}
"""Values that switch everything on."""

NOTHING: dict[str, Any] = {
    "clusterScoped": False,
    "rbac": {"create": False},
    "sealingKeys": {"existingSecret": "keys"},
    "topologySpread": {"enabled": False},
    "receiver": {
        "replicas": 1,
        "podDisruptionBudget": {"enabled": False},
        "serviceAccount": {"create": False, "name": "theirs"},
    },
    "pages": {"enabled": False},
    "console": {"enabled": False},
    "controller": {
        "podDisruptionBudget": {"enabled": False},
        "serviceAccount": {"create": False, "name": "theirs"},
    },
    "networkPolicy": {"enabled": False},
    "floodControl": {"quota": {"enabled": False}},
    "helmTest": {"enabled": False},
}
"""Values that switch off what can be."""

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": EVERYTHING,
    "nothing": NOTHING,
    "namespace only": {"clusterScoped": False},
    "named": {"fullnameOverride": "filing", "nameOverride": "filing"},
    "node port, no policies": {
        "receiver": {"service": {"type": "NodePort"}},
        "networkPolicy": {"enabled": False},
        "admissionPolicy": {"enabled": False},
    },
    "no pages": {"pages": {"enabled": False}, "ingress": {"enabled": True, "host": "a.example"}},
    "service monitor": {"serviceMonitor": {"enabled": True, "endpoint": {"scrapeTimeout": "10s"}}},
    "OpenShift": {"openshift": True},
    "percent": {"receiver": {"podDisruptionBudget": {"maxUnavailable": "25%"}}},
}
"""Values of releases that differ; what is said of the chart is tested with each."""
