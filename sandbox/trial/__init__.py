"""
The trial of the chart in a cluster: what `charts/counterfoil/values-trial.yaml` starts beside Counterfoil.

``image`` makes its image, ``mail_catcher`` is its mail server, ``envelope`` is its Job and its part of
`helm test`. For tests and trials, and never in Counterfoil's own image.
"""
