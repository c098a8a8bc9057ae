"""Curvature: Hessian operators, spectra of blocks of parameters, and distances between spectra.

The public names stand in ``__init__.pyi``; each is imported when it is first used: settings need no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
