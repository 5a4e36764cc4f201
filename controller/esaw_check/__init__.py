"""
The check of eSAW: ask it read-only what Counterfoil assumes about it, for a person who asked for that.

``checker`` chooses a Sender's key and returns the status, ``probes`` sends the questions, ``responses`` reads
single answers, and ``assumptions`` decides.
"""
