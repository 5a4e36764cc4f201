"""The new start of an ended or parked event, and the rules which fix may solve which reason."""
