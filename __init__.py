"""whyadam: a command-line laboratory for why adaptive methods beat SGD on attention models."""

__version__ = "0.1.0"
