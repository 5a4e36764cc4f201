"""When an event is due and which event is next."""
