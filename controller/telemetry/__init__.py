"""The controller's own telemetry: Kubernetes Events, gauges and the liveness check."""
