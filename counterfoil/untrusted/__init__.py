"""
Work on the input of outsiders inside of an event loop: what bounds its cost, and what measures it (rule 12).

``counterfoil.worker_processes`` is for work that has no such bound.
"""
