"""The errors that any room may raise and that mean something to whoever catches them, and how they are shown."""


class UserError(ValueError):
    """A mistake in a config, a command line or a data file; the message is one line that says what would be right."""


class DivergedError(ArithmeticError):
    """A loss or a gradient is no finite number any more."""


def printable(text: str) -> str:
    """The text with the signs that a terminal would obey, such as escape sequences and line ends, written out."""
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)


def one_line(error: BaseException) -> str:
    """The message of any error in one line of bearable length; its kind where it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__
