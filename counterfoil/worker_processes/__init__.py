"""
Processes for untrusted input: the kernel limits their memory and CPU time, and the event loop only waits.

``pool`` is the side of the parent, and ``worker`` the side of the process.
"""
