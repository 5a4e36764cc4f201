"""The soak test: an hour of steady load and faults, in which no process grows and no event is lost."""
