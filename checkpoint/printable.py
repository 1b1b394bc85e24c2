"""Escape text from a store before it is shown on a terminal, in a report or in a page.

Names, hosts and messages in a store may hold characters that move a cursor, erase a line, set a
title or reverse the order of letters. All text from a store is shown through `printable`.
"""

__all__ = ["printable"]


def printable(text: object, *, lines: bool = False) -> str:
    r"""Return a text with an escape in place of each character that is not printed as itself.

    Parameters
    ----------
    text : object
        Its `str` is taken.
    lines : bool
        Whether newlines are kept, as in messages of this package whose parts were escaped before.

    Examples
    --------
    >>> print(printable("mu\x1b[2J"), printable("\u202eslaw"), printable("déjà vu"))
    mu\x1b[2J \u202eslaw déjà vu
    >>> print(printable("one\ntwo"))
    one\ntwo
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode()
        for c in shown
    )
