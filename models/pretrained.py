"""Loading a trained checkpoint in transformers' format, after checking that it is the model of the settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import PACKAGE, expanded, find
from ..errors import first_line

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig


def load_pretrained(
    source: str, model_class: Any, expected: PreTrainedConfig, options: dict[str, Any], attention: str
) -> nn.Module:
    """The model of a checkpoint, in float32 and training mode; a head that it lacks gets random weights.

    Args:
        source: folder, ``package:NAME/PATH`` in an installed package, or name on the Hugging Face hub.
        model_class: the class of transformers that has the right head.
        expected: the family, sizes and vocabulary that the checkpoint must have.
        options: entries of the checkpoint's configuration to replace.
        attention: ``sdpa`` or ``eager``.

    Raises:
        ValueError: the checkpoint is missing, damaged or of another family, size or vocabulary.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig

    if source.startswith(PACKAGE):
        source = str(find(source, "model.pretrained"))
    elif source.startswith(("/", ".", "~")):
        source = str(expanded(source))
        if not Path(source).is_dir():
            raise ValueError(f"model.pretrained: there is no folder {source}")
    with _quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(source, **options)
        except (OSError, ValueError) as error:
            raise ValueError(f"model.pretrained: cannot load {source}: {first_line(error)}") from error
        _check(source, config, expected)
        try:
            model, report = model_class.from_pretrained(
                source,
                config=config,
                attn_implementation=attention,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise ValueError(f"model.pretrained: cannot load {source}: {first_line(error)}") from error
    missing = sorted(name for name in report["missing_keys"] if name.startswith(f"{model.base_model_prefix}."))
    if missing:
        raise ValueError(f"model.pretrained: {source} lacks weights, {missing[0]} for one")
    return model.train()


def _check(source: str, found: PreTrainedConfig, expected: PreTrainedConfig) -> None:
    if found.model_type != expected.model_type:
        raise ValueError(f"model.pretrained: {source} is a {found.model_type}, not a {expected.model_type}")
    wanted = _sizes(expected)
    for key, size in _sizes(found).items():
        if size != wanted[key]:
            raise ValueError(f"model.{key}: {source} has {size}, not {wanted[key]}; set it to that")
    if found.vocab_size != expected.vocab_size:
        raise ValueError(
            f"model.pretrained: {source} knows {found.vocab_size} tokens, the data's tokenizer {expected.vocab_size}; "
            "they must be the same"
        )


def _sizes(config: PreTrainedConfig) -> dict[str, int]:
    """Our size keys with their values in a configuration of transformers."""
    inner = config.n_inner if hasattr(config, "n_inner") else config.intermediate_size
    return {
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "n_embd": config.hidden_size,
        "n_inner": inner or 4 * config.hidden_size,
        "n_positions": config.max_position_embeddings,
    }


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No report of what was loaded, and no progress bar where it would fill a log file."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
