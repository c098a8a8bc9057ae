"""``python -m whyadam`` is the ``whyadam`` command."""

from .cli import main

main()
