"""
``kubectl counterfoil``: commands for a person at a terminal, with that person's own rights.

``program`` reads the arguments and prints the result, each command is a separate module with ``arguments``
and ``run``. ``access`` opens the API server as kubectl would, ``choosing`` finds the events that are meant.
Nothing here runs in a pod, and nothing has rights that its user has not.
"""
