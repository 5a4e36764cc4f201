"""What the controller tells Kubernetes and Prometheus about itself."""
