"""The cluster's shared secret: kept out of logs, compared in constant time."""

import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from paxos_twisted.limits import SECRET_BYTES_MAX, SECRET_BYTES_MIN


class Secret:
    """A text that does not show itself in logs, tracebacks or messages."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text, for the handshake or a request header."""
        return self._text

    def matches(self, other: str | bytes) -> bool:
        """Whether `other` is the secret. Takes the same time wherever the first difference is."""
        given = other if isinstance(other, bytes) else other.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(self._text.encode(), given)

    def __repr__(self) -> str:
        return "Secret(...)"


def new_secret() -> str:
    """A fresh secret: 256 random bits as 43 letters, digits, "-" and "_"."""
    return secrets.token_urlsafe(32)


def read_secret(path: Path) -> tuple[Secret, str | None]:
    """Read a secret file: one line. Returns a warning too, when others than the owner may read it.

    Raises:
        ValueError: the file is missing, open to everybody, or holds no usable secret; with the sentence for people.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path} is not a file")
            data = file.read(SECRET_BYTES_MAX + 3)
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist; make one: (umask 077; openssl rand -hex 32 > {path})") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o027:
        raise ValueError(f"{path} is open to others (mode {mode:04o}); type: chmod 600 {path}")
    text = data.decode("ascii", "replace").removesuffix("\n").removesuffix("\r")
    if not re.fullmatch(rf"[!-~]{{{SECRET_BYTES_MIN},{SECRET_BYTES_MAX}}}", text):
        raise ValueError(
            f"{path} must hold one line of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} letters, digits or signs, no spaces"
        )
    warning = f"the group may read {path} (mode {mode:04o}); chmod 600 is safer" if mode & 0o040 else None
    return Secret(text), warning
