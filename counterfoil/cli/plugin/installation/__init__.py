"""
The commands about an installation as a whole: ``status``, ``preflight``, ``setup`` and ``diagnose``.

They ask the API server with the user's own rights. Only ``setup`` writes.
"""
