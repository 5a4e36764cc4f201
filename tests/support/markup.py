"""Texts that would be HTML, a script or a template if nothing escaped them."""

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus='alert(1)' autofocus='",
    "</title></style></select><svg/onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "{0}{code}{user.__class__}",
    "javascript:alert(1)",
    "&lt;b&gt;&#x3c;b&#x3e;",
)
