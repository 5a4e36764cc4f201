"""
What can go wrong in an archive, sorted by whose turn it is.

Every message tells what, where and whose turn, and is the same for equal causes: no request ids, no times, no
random texts of hosts, so that it can stand in a status. ``reason`` is CamelCase and stable.
"""


class ArchiveError(Exception):
    """Filing did not work. ``reason`` is for machines and printer columns, ``str()`` for the administrator."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ArchiveUnavailable(ArchiveError):
    """Nobody has to decide anything: the archive can't be reached, is overloaded or full. Try again later."""


class ArchiveRefused(ArchiveError):
    """The archive says no (key, permission, bucket or root missing): a person must act; trying again later is right."""


class NameTaken(ArchiveError):
    """Something that is not ours lies where a file of ours must go. It was not touched."""

    def __init__(self, message: str) -> None:
        super().__init__("NameOccupied", message)


class VerificationFailed(ArchiveError):
    """The archive took a file and gave back another one."""

    def __init__(self, message: str) -> None:
        super().__init__("StoredWrong", message)


class SettingsInvalid(ArchiveError):
    """The Archive's spec or its Secret can't work as written; nothing changes until a person corrects it."""

    def __init__(self, message: str) -> None:
        super().__init__("SettingsInvalid", message)
