"""
The console: where an administrator sees what waits for a person, and solves it, with this person's own rights.

A request comes in at ``reception``, which knows the routes and turns every trouble into a page; ``sessions`` tells who it
is and carries the token sealed in a cookie; the ``Desk`` reads through a ``Visitor``, whose every call to the API server is made
with that token. What a person does goes through ``actions``, which records it on the object and as a Kubernetes Event.

The console itself can do nothing, keeps nothing, and never reads a list whole: what is shown is chosen by the API server
and comes in pages.
"""
