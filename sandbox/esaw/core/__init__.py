"""The stand-in's data and behaviour without HTTP: envelopes, users, callbacks, faults."""
