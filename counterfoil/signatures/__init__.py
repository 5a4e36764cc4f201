"""
Signatures: whether what was signed in a PDF is still what the file says.

``findings`` are the values that everybody may read, ``examiners`` are the processes that look, and
``examination`` is what they do. A PDF is untrusted: only those processes parse one.
"""
