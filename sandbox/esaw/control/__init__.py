"""Control of the stand-in for tests and the demo: in this process, or over HTTP."""
