"""The programs that write parts of the documentation from the code, and check it."""
