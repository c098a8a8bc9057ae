"""How a batch is given to a model, for every kind of model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from .settings import Batch

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def forward(model: nn.Module, batch: Batch) -> Any:
    """What ``model`` gives for ``batch``.

    A vision model is called with the images; a language model with the ``TEXT_INPUTS`` that the batch has, by keyword.
    A batch without padding has no ``attention_mask``. Where the batch has ``positions``, a model that
    ``predicts_at_positions`` is asked for the logits of those tokens alone, which saves most of the work of its head.
    """
    if "images" in batch:
        return model(batch["images"])
    inputs = {name: batch[name] for name in TEXT_INPUTS if name in batch}
    if "positions" in batch and getattr(model, "predicts_at_positions", False):
        inputs["positions"] = batch["positions"]
    return model(**inputs)
