"""What the stand-in knows and does without HTTP: envelopes, users, callbacks, faults."""
