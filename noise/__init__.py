"""Gradient noise: tail estimators, the Gaussian control, the variance and its references.

The public names stand in ``__init__.pyi``; each is imported when it is first used: scipy takes its time.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
