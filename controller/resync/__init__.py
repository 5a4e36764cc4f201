"""The periodic work: statuses of shared objects, garbage collection, missed callbacks."""
