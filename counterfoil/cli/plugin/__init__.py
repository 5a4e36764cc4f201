"""
``kubectl counterfoil``: commands for a person at a terminal, with that person's own rights.

``entry_point`` reads the arguments, and each command has ``add_arguments`` and ``run``. ``config_flags``
opens the API server as kubectl would, ``selection`` finds the chosen events. No command runs in a pod, and no
command has rights that its user lacks.
"""
