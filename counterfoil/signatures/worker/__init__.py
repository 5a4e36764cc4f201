"""
The process that examines signatures (``python -m counterfoil.signatures.worker``).

The head of a request is the trust anchors, and its body the PDF (``counterfoil.worker_processes``). The
result is JSON.
"""

from counterfoil._upstream.pyhanko_aiohttp import leave_aiohttp_out

# Before ``__main__`` imports pyHanko.
leave_aiohttp_out()
