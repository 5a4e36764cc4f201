"""
The pages: what a sender sees in the browser between Send in eSAW and the inbox, and when a key must be
renewed.

Each request flows: ``handler`` (routes, errors) -> ``views`` -> ``code_exchange`` or ``send``.
``code_exchange`` gets a user's key by OAuth and stores it sealed in a Secret. ``send`` sends a draft once and
records its sender. ``send_recovery`` completes what another process began. No process keeps state in memory
that another replica needs.
"""
