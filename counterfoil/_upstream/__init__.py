"""
Work-arounds for faults of libraries, one module per library.

Each module names its upstream issue and the versions that need the work-around. A test in
``tests/unit/counterfoil/upstream`` shows the fault: when that test fails after an update, delete the
work-around. The one for kopf is ``controller/watch/kopf_responses.py``: only the controller has kopf.
"""
