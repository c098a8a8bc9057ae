"""The errors that every package may raise, and how their text is shown on a terminal."""


class UserError(ValueError):
    """A mistake in a config, a command line or a data file; the message is one line that says what would be right."""


class DivergedError(ArithmeticError):
    """A loss or a gradient is NaN or infinite."""


def printable(text: str) -> str:
    """The text with control characters, such as escape sequences and line ends, written out."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def one_line(error: BaseException) -> str:
    """The message of any error in one line of at most 300 characters; its kind where it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__
