"""
Signatures: whether the signed content of a PDF is unchanged.

``results`` has the results, which all processes may read. ``worker_pool`` manages the processes that check,
and ``check`` is their work. A PDF is untrusted: only those processes parse one.
"""
