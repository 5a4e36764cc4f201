"""
The console: shows administrators the events that wait for a person, and changes them with this person's own
rights.

Each request flows: ``handler`` (routes, errors) -> ``sessions`` (the token in a sealed cookie) -> ``views``,
which read with the person's token. ``actions`` makes a person's changes and records them on the object and as
a Kubernetes Event.

The console has no rights, stores nothing, and never reads a whole list: the API server selects and pages.
"""
