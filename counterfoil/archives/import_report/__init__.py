"""
The report of an Import: one part per window of a Sender, in the archive.

``content`` makes and reads the bytes, and ``storage`` writes them into an archive and checks them there. The
controller writes each part once; the plugin reads all of them. docs/import.md describes the files.
"""
