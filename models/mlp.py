"""Multilayer perceptrons on flattened images: a plain one, and one whose layers differ in curvature."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from .base import Head, ModelSettings

if TYPE_CHECKING:
    from torch import nn


class MLP(ModelSettings):
    """Fully connected layers on the flattened image.

    Attributes:
        hidden: width of each hidden layer; none at all makes it multinomial logistic regression.
        activation: what follows each hidden layer.
    """

    paper: ClassVar[str] = "Rumelhart et al. 1986, Nature 323"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})

    name: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = (256, 256)
    activation: Literal["relu", "tanh", "gelu"] = "relu"

    def _build(self, head: Head) -> nn.Module:
        """Torch's linear layers with their own initialisation."""
        image_size = self.image_size_of(head)
        from torch import nn

        activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}[self.activation]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise((3 * image_size**2, *self.hidden, head.outputs)):
            layers += [nn.Linear(inputs, outputs), activation()]
        return nn.Sequential(*layers[:-1])


class ScaledMLP(ModelSettings):
    """Fully connected layers without biases; contrast sets the curvatures of the layers apart.

    A layer computes with the weights contrast^s · w, where w are its parameters and s goes evenly from -1 to 1. The
    parameters start at contrast^-s times the usual, so the function that the network computes is the same for every
    contrast. The layer's gradient is contrast^s times, and its block of the Hessian contrast^2s times what it is
    without: the sharpest is contrast^4 times sharper against the flattest.

    One step of SGD then moves the layer's weights as with a learning rate of lr · contrast^2s, one of Adam as with
    lr · contrast^s.

    Attributes:
        hidden: width of each hidden layer.
        contrast: 1 for an ordinary perceptron.
        sharpest: the layer with s = 1; the one at the other end has s = -1.
    """

    paper: ClassVar[str] = "after Zhang et al. 2024, Why Transformers Need Adam, arXiv:2402.16788"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})

    name: Literal["scaled_mlp"] = "scaled_mlp"
    hidden: tuple[PositiveInt, ...] = (32, 32, 32)
    contrast: Annotated[float, Field(ge=1)] = 1.0
    sharpest: Literal["first", "last"] = "last"

    def _build(self, head: Head) -> nn.Module:
        """ReLU layers, started as by He et al. 2015 (arXiv:1502.01852)."""
        image_size = self.image_size_of(head)
        from torch import nn

        from .modules import ScaledLinear

        layers: list[nn.Module] = [nn.Flatten()]
        widths = (3 * image_size**2, *self.hidden, head.outputs)
        for (inputs, outputs), exponent in zip(pairwise(widths), self.exponents(), strict=True):
            layers += [ScaledLinear(inputs, outputs, self.contrast**exponent), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def exponents(self) -> list[float]:
        """The s of each layer; 0 if there is one layer alone."""
        last = len(self.hidden)
        rising = [2 * layer / last - 1 for layer in range(last + 1)] if last else [0.0]
        return rising if self.sharpest == "last" else rising[::-1]
