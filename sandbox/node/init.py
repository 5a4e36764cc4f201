"""
The first process of a node's namespaces: sets up the namespaces, reports it, then reaps ended processes.

``python -I init.py FOLDER ADDRESS`` is started by ``namespaces`` as process 1 of a new process namespace,
beside new namespaces of mounts, network and host name. It ends when it is killed, and then the kernel ends
everything else in there.
"""

import os
import subprocess
import sys
from pathlib import Path

READY = "machine is ready"


def main() -> None:
    """Set up, then wait for children as an init does."""
    folder, address = Path(sys.argv[1]), sys.argv[2]
    _mounts(folder)
    _network(address)
    print(READY, flush=True)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            # Children are born elsewhere (nsenter) and become ours as orphans, so there is no event to wait
            # for.
            _pause()


def _pause() -> None:
    subprocess.run(["sleep", "1"], check=True)


def _mounts(folder: Path) -> None:
    # Pods' mounts propagate among themselves, as on a machine with systemd; the real machine sees none of
    # them.
    _do("mount", "--make-rshared", "/")
    # What is gone after a reboot: sockets, network namespaces, locks, the state of containers.
    _do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for name in ("netns", "lock"):
        Path("/run", name).mkdir()
    for place in ("/var/log", "/var/lib/cni"):
        ours = folder / place.strip("/").replace("/", "-")
        ours.mkdir(exist_ok=True)
        _do("mount", "--bind", str(ours), place)


def _network(address: str) -> None:
    _do("hostname", "counterfoil-node")
    _do("ip", "link", "set", "lo", "up")
    # Both ends are in here: the node has an address and a default route, and nowhere to go by it.
    _do("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "nowhere")
    _do("ip", "address", "add", f"{address}/24", "dev", "eth0")
    _do("ip", "link", "set", "nowhere", "up")
    _do("ip", "link", "set", "eth0", "up")
    _do("ip", "route", "add", "default", "via", f"{address.rpartition('.')[0]}.254")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _do(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
