"""
The HTTP side of Counterfoil: one process for each public port.

The receiver takes eSAW's callbacks and notes them down; what happens to an event afterwards is the controller's.
It never imports ``controller``.
"""
