"""Stand-ins for one interface each, in memory."""
