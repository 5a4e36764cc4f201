"""The end of a wait, after a fix of an object: waiting events continue, and failed events start again."""
