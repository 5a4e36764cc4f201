"""
The pages: what a sender sees in the browser on the way from Send in eSAW to the inbox, and when a key has to be renewed.

A request comes in at ``reception``, which knows the routes and turns every trouble into a page. ``consents`` gets a user's
key by OAuth and puts it away sealed, ``sending`` sends a draft exactly once and notes down who sent it, ``repair`` ends
what another process began and could not end. Nothing that another replica would need is kept in memory.
"""
