"""The errors that any room may raise and that mean something to whoever catches them."""


class UserError(ValueError):
    """A mistake in a config, a command line or a data file; the message is one line that says what would be right."""


class DivergedError(ArithmeticError):
    """A loss or a gradient is no finite number any more."""
