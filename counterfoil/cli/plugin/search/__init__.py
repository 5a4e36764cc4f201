"""Commands that let the controller search eSAW for envelopes. They ask the API server, never eSAW."""
