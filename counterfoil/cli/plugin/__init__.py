"""
``kubectl counterfoil``: what a person asks of Counterfoil at a terminal, with that person's own rights.

``program`` reads the arguments and says what came of it, each command is a module of its own with ``arguments`` and
``run``, ``access`` opens the API server as kubectl would, ``choosing`` finds the events that are meant. Nothing here runs
in a pod, and nothing has rights that its user has not.
"""
