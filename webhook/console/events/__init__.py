"""The list of events and the page of one event."""
