"""
The check of what Counterfoil assumes about eSAW, read-only, for a person who asked for it.

``probes`` sends the questions, ``responses`` reads single answers, ``assumptions`` and
``envelope_assumptions`` decide, and ``facts`` has the words of the result and the report that its user may
send in. ``controller.requests.esaw_checker`` chooses a Sender's key and starts the check; the plugin
and the console show the result in ``Organization.status.check``.
"""
