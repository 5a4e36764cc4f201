"""
Shared by the kinds of archives that are object stores; each kind adds its addresses and its errors.

``client`` sends signed requests to one bucket and bounds each answer. ``backend`` turns the calls of an
``ArchiveBackend`` into requests, ``xml_api`` for S3 and Google. ``identity`` finds the pod's own identity.
"""
