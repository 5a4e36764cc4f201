"""
The kopf side of Counterfoil: all work on an event after the receiver created it.

Watches update the cache, the cache's handlers enqueue events, the worker reconciles one event at a time
through its phases. It never imports ``webhook``.
"""

from counterfoil._upstream.kubernetes_package import import_parts_lazily

# Before any module imports kopf.
import_parts_lazily()
