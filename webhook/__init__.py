"""
The HTTP side of Counterfoil: one process for each public port.

The receiver takes eSAW's callbacks and creates an EnvelopeEvent for each; the controller processes the
events. The pages get consents and send drafts; the console shows the events to administrators. This package
never imports ``controller``.
"""
