"""
A whole Counterfoil on this machine: its processes, and the control plane and stand-in eSAW that they use.
"""
