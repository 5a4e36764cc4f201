"""One event: from its newest state through its phases to its next status."""
