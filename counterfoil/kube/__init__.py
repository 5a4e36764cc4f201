"""The Kubernetes API server: one client for every process."""
