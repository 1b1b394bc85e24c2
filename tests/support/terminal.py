"""A terminal of 80 columns, in which a command runs."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Sequence
from contextlib import suppress

_STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def in_terminal(command: Sequence[object], columns: int = 80) -> tuple[int, str]:
    """Run a command; return its exit code and all that the terminal got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    hidden = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    data = b""
    with suppress(OSError):  # the end of what the other side wrote
        while part := os.read(ours, 1 << 16):
            data += part
    os.close(ours)
    return process.wait(), data.decode()


def without_styles(text: str) -> str:
    """Return a text as it is read: without colours."""
    return _STYLES.sub("", text).replace("\r", "")
