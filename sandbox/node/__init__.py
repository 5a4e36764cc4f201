"""
A whole Kubernetes node on a bare Linux machine, for the end-to-end tests: pods run, Services balance, NetworkPolicies bite.

``node`` is the way in. It needs root, and Debian's containerd, runc, CNI plugins, ipset and iptables. ``machine`` gives it
namespaces of its own (processes, mounts, network, host name), so that nothing of the real machine is touched and all of it
ends with whoever started it; ``images`` makes what runs in the pods. Nothing here is part of the product's image.
"""
