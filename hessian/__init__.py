"""Curvature: Hessian operators, spectra of blocks of parameters, and distances between spectra.

``__init__.pyi`` lists the public names; they are imported on first use, since settings must not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
