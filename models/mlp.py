"""A multilayer perceptron on flattened images: the smallest model, and the one without any structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from .settings import Head, ModelSettings

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

    def build(self, head: Head) -> nn.Module:
        """Torch's linear layers with their own initialisation.

        Raises:
            ValueError: the task is no classification, or the size of its images is not known.
        """
        self.check(head)
        image_size = self.image_size_of(head)
        from torch import nn

        activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}[self.activation]
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = 3 * image_size**2
        for width in self.hidden:
            layers += [nn.Linear(inputs, width), activation()]
            inputs = width
        return nn.Sequential(*layers, nn.Linear(inputs, head.outputs))
