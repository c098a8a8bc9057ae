"""``python -m whyadam.cli`` is the ``whyadam`` command."""

from . import main

main()
