"""
The kopf side of Counterfoil: everything that happens to an event after it was noted down.

Watches feed the ``Office`` (what exists), the ``Schedule`` decides who is next, the ``Driver`` takes one event
through its phases and is the only one that writes its status. It never imports ``webhook``.
"""
