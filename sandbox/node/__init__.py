"""
A whole Kubernetes node on a bare Linux machine, for the end-to-end tests: pods run, Services balance,
NetworkPolicies bite.

``node`` is the way in. It needs root, and Debian's containerd, runc, CNI plugins, ipset and iptables.
``namespaces`` gives it separate namespaces (processes, mounts, network, host name), so that nothing of the
real machine is touched and all of it ends with the process that started it; ``images`` makes the pods'
images. Nothing here is part of the product's image.
"""
