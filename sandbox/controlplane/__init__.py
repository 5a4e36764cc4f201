"""
A real Kubernetes control plane on a bare Linux machine, for the demo, the tests and the benchmarks.

``binaries`` builds kube-apiserver, etcd, kubectl, rclone and helm from pinned Go modules; ``control_plane``
runs etcd and kube-apiserver on loopback. Nothing here is part of the product's image.
"""
