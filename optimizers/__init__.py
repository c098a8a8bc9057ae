"""Update rules, one file each, and their registry.

The public names are listed in ``__init__.pyi`` and imported on first use, so that a config is checked without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
