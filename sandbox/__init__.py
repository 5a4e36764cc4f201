"""
Environments for tests and the demo: a real control plane, a stand-in eSAW, real archives. Never in the image.
"""
