"""The base of all errors that are the user's to mend."""


class UserError(ValueError):
    """A mistake in a config, a command line or a data file; the message is one line that says what would be right."""
