"""
Notices of finished events to the webhook of an Organization: one per final state, at least once.

``policy`` decides, ``cloudevent`` builds the body, ``client`` sends it, ``delivery`` finds the pending
notices and stores the results. Nothing here changes how an event is processed.
"""
