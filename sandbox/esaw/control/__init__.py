"""How tests and the demo steer the stand-in: in this process, or over HTTP."""
