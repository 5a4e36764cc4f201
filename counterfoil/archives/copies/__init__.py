"""
A copy of an archived envelope in a second archive.

``original`` reads what the first archive has, and compares it with what the event's status stored. ``copy``
writes it into the second one. eSAW is not asked. The phase Copying and the tests of each pair of archives use
both.
"""
