"""
Settings of a node's programs: their flags and configuration files.

Most of it is what any cluster has. What a small machine without systemd, with its own namespaces, wants
otherwise has its reason beside it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.controlplane.credentials import AGGREGATOR, ControlPlaneCredentials

NAME = "counterfoil-node"
ADDRESS = "10.200.0.1"
PORT = 6443
KUBELET_HEALTH = 10248
METRICS_PORT = 4443
METRICS_API = "v1beta1.metrics.k8s.io"
PODS = "10.244.0.0/24"
SERVICES = "10.0.0.0/24"
DOMAIN = "cluster.local"
ETCD = "http://127.0.0.1:2379"
CONTAINERD = "/run/counterfoil/containerd.sock"
PAUSE_IMAGE = "localhost/pause:1"
CNI_PROGRAMS = "/usr/lib/cni"  # Debian's place


@dataclass(frozen=True)
class NodePaths:
    """Paths of a node's files: all below one folder."""

    folder: Path
    kubeconfig: Path
    credentials: ControlPlaneCredentials


def write(paths: NodePaths, group: str) -> None:
    """Write all configuration files."""
    folder = paths.folder
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "cni" / "10-pods.conflist").write_text(json.dumps(_pod_network(folder)))
    (folder / "containerd.toml").write_text(_containerd(folder))
    (folder / "kubelet.json").write_text(json.dumps(_kubelet(paths, group)))
    (folder / "kube-proxy.json").write_text(json.dumps(_kube_proxy(paths)))
    (folder / "Corefile").write_text(_corefile(paths))
    # No name is resolved by anybody but our CoreDNS.
    (folder / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")


def etcd(paths: NodePaths) -> Sequence[str]:
    """Return etcd's flags. Its data survive a reboot, so it may not skip fsync as the control plane's
    does."""
    return [f"--data-dir={paths.folder / 'etcd'}", "--log-level=warn"]


def apiserver(paths: NodePaths) -> Sequence[str]:
    """Return the API server's flags."""
    keys = paths.credentials
    return [
        f"--etcd-servers={ETCD}",
        # The Service `kubernetes` can't lead to a loopback address.
        f"--bind-address={ADDRESS}",
        f"--advertise-address={ADDRESS}",
        f"--secure-port={PORT}",
        f"--tls-cert-file={keys.server_certificate}",
        f"--tls-private-key-file={keys.server_key}",
        f"--client-ca-file={keys.authority}",
        f"--kubelet-client-certificate={keys.admin_certificate}",
        f"--kubelet-client-key={keys.admin_key}",
        # Or `kubectl logs` looks up the node's name, which no DNS server knows.
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={keys.tokens_key}",
        f"--service-account-signing-key-file={keys.tokens_key}",
        f"--service-cluster-ip-range={SERVICES}",
        # What metrics-server tells is asked for through the API server.
        f"--requestheader-client-ca-file={keys.authority}",
        f"--requestheader-allowed-names={AGGREGATOR}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={keys.aggregator_certificate}",
        f"--proxy-client-key-file={keys.aggregator_key}",
        "--enable-aggregator-routing=true",
        "--profiling=false",
        "--shutdown-watch-termination-grace-period=1s",
    ]


def controller_manager(paths: NodePaths) -> Sequence[str]:
    """Return the controller-manager's flags."""
    return [
        f"--kubeconfig={paths.kubeconfig}",
        f"--root-ca-file={paths.credentials.authority}",
        f"--service-account-private-key-file={paths.credentials.tokens_key}",
        # kube-router asks the node which addresses its pods have.
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={PODS}",
        "--node-cidr-mask-size=24",
        f"--service-cluster-ip-range={SERVICES}",
        "--leader-elect=false",
        f"--bind-address={ADDRESS}",
        # A node that was rebooted is trusted again at once, and pods of a lost one are given up soon.
        "--node-monitor-period=2s",
    ]


def scheduler(paths: NodePaths) -> Sequence[str]:
    """Return the scheduler's flags."""
    return [f"--kubeconfig={paths.kubeconfig}", "--leader-elect=false", f"--bind-address={ADDRESS}"]


def kubelet(paths: NodePaths) -> Sequence[str]:
    """Return the kubelet's flags."""
    return [
        f"--config={paths.folder / 'kubelet.json'}",
        f"--kubeconfig={paths.kubeconfig}",
        f"--root-dir={paths.folder / 'kubelet'}",
        f"--hostname-override={NAME}",
        f"--node-ip={ADDRESS}",
    ]


def kube_proxy(paths: NodePaths) -> Sequence[str]:
    """Return kube-proxy's flags."""
    return [f"--config={paths.folder / 'kube-proxy.json'}"]


def coredns(paths: NodePaths) -> Sequence[str]:
    """Return CoreDNS's flags."""
    return [f"-conf={paths.folder / 'Corefile'}"]


def kube_router(paths: NodePaths) -> Sequence[str]:
    """Return kube-router's flags: NetworkPolicies, and nothing else of what it can do."""
    return [
        f"--kubeconfig={paths.kubeconfig}",
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        f"--service-cluster-ip-range={SERVICES}",
        f"--hostname-override={NAME}",
        "--iptables-sync-period=30s",
        "--health-port=0",
    ]


def metrics_server(paths: NodePaths) -> Sequence[str]:
    """Return metrics-server's flags."""
    return [
        f"--kubeconfig={paths.kubeconfig}",
        f"--authentication-kubeconfig={paths.kubeconfig}",
        f"--authorization-kubeconfig={paths.kubeconfig}",
        f"--bind-address={ADDRESS}",
        f"--secure-port={METRICS_PORT}",
        f"--cert-dir={paths.folder / 'metrics-server'}",
        # The kubelet has made its certificate itself.
        "--kubelet-insecure-tls",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=15s",
    ]


def metrics_api() -> dict[str, Any]:
    """Return the objects by which the API server finds metrics-server, which is no pod here."""
    metadata = {"name": "metrics-server", "namespace": "kube-system"}
    port = {"port": METRICS_PORT, "protocol": "TCP"}
    slice_ = {**metadata, "labels": {"kubernetes.io/service-name": "metrics-server"}}
    version, _, group = METRICS_API.partition(".")
    api = {
        "service": {**metadata, "port": METRICS_PORT},
        "group": group,
        "version": version,
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [port]}},
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": slice_,
                "addressType": "IPv4",
                "endpoints": [{"addresses": [ADDRESS]}],
                "ports": [port],
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": METRICS_API},
                "spec": api,
            },
        ],
    }


def containerd(paths: NodePaths) -> Sequence[str]:
    """Return containerd's flags."""
    return [f"--config={paths.folder / 'containerd.toml'}"]


def _containerd(folder: Path) -> str:
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc can't lower a score, and every sandbox would fail.
    return f"""version = 2
root = "{folder / "containerd"}"
state = "/run/counterfoil/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing",
]

[grpc]
address = "{CONTAINERD}"

[plugins."io.containerd.internal.v1.opt"]
path = "{folder / "containerd-opt"}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PROGRAMS}"
conf_dir = "{folder / "cni"}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def _pod_network(folder: Path) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": True,
                # A pod may reach itself through its own Service.
                "hairpinMode": True,
                "ipam": addresses,
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _kubelet(paths: NodePaths, group: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "address": ADDRESS,
        "healthzBindAddress": ADDRESS,
        "healthzPort": KUBELET_HEALTH,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(paths.credentials.authority)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDNS": [ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": str(paths.folder / "resolv.conf"),
        # No systemd here; control groups may be of version 1, and a machine may have swap.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # A full disk is not what is tested.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "volumePluginDir": str(paths.folder / "volume-plugins"),
        "podLogsDir": str(paths.folder / "pod-logs"),
        # A pod that fails at first, as its Secret is not there yet, is soon tried again.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "10s"},
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "4s",
    }


def _kube_proxy(paths: NodePaths) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(paths.kubeconfig)},
        "clusterCIDR": PODS,
        "hostnameOverride": NAME,
        # It may not turn the kernel's own knobs, and would end itself over it.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def _corefile(paths: NodePaths) -> str:
    return f"""{DOMAIN}:53 in-addr.arpa:53 {{
    bind {ADDRESS}
    errors
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {paths.kubeconfig}
        pods insecure
        fallthrough in-addr.arpa
        ttl 5
    }}
}}
.:53 {{
    bind {ADDRESS}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
