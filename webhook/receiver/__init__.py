"""The receiver: takes eSAW's callbacks and answers 200 only for a stored event (rule 1)."""
