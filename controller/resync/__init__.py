"""The periodic work: statuses of shared objects, garbage collection, the sweep for missed callbacks."""
