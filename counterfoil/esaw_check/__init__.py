"""
The check of what Counterfoil assumes about eSAW: the facts, and the report that its user may send in.

The controller asks eSAW (``controller.esaw_check``); the plugin and the console show the result in
``Organization.status.check``. This package sends no requests.
"""
