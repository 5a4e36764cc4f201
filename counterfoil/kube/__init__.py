"""The Kubernetes API server: one client for every process."""

from counterfoil._upstream.kubernetes_package import import_parts_lazily

import_parts_lazily()
