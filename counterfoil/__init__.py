"""
Counterfoil: files the finished envelopes of eSignAnyWhere, proves that they arrived, and only then deletes
them there.

This package is what the webhook processes and the controller share: the resources and their names, access to
Kubernetes, the eSAW client, the archives, settings, metrics and logs. It imports neither of them.
"""

__version__ = "0.1.0"
