// The kinds of others that the chart can make objects of: their CustomResourceDefinitions lie in these modules.
module counterfoil.local/kinds

go 1.24.0

require (
	github.com/prometheus-operator/prometheus-operator v0.83.0
	sigs.k8s.io/gateway-api v1.3.0
)
