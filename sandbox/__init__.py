"""
What Counterfoil is tried on: a real control plane, a stand-in eSAW, real archives, the demo. Never in the image.
"""
