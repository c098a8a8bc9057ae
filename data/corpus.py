"""From documents to one long row of token ids on disk."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..cache import cached_file, content_digest
from ..errors import UserError
from .base import Text
from .text import Documents, TextSettings
from .tokenization import Tokenizer, load_tokenizer, pieces, use_one_thread

FORMAT = "1"
"""Part of every cached token file's name; raised when the same text and tokenizer should give other files."""

PIECES_AT_ONCE = 256


def load_text(train: Documents, evaluation: Documents, settings: TextSettings) -> Text:
    """Both parts as tokens, from the cache where they are there.

    The tensors are views of files: they take no memory beyond what is read of them, and must not be written to.

    Raises:
        UserError: a part has no full block; the message names it.
    """
    tokenizer = load_tokenizer(settings, train)
    train_tokens, evaluation_tokens = (
        _load_tokens(part, tokenizer, settings.block_size) for part in (train, evaluation)
    )
    use_one_thread()
    return Text(train_tokens, evaluation_tokens, tokenizer, settings.block_size)


def _load_tokens(documents: Documents, tokenizer: Tokenizer, block_size: int) -> torch.Tensor:
    key = content_digest(FORMAT, documents.digest, tokenizer.digest())
    path = cached_file(f"tokens/{key}.int32", lambda path: _write_tokens(documents, tokenizer, path))
    count = path.stat().st_size // np.dtype(np.int32).itemsize
    if count <= block_size:
        raise UserError(
            f"data.block_size: {documents.source} has {count} tokens; it needs more than the {block_size} of one block"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")
        return torch.from_numpy(np.memmap(path, dtype=np.int32, mode="r"))


def _write_tokens(documents: Documents, tokenizer: Tokenizer, path: Path) -> None:
    marked = _marked_pieces(documents)
    separator = [tokenizer.separator_id]
    title = f"tokens of {documents.source}"
    bar = tqdm(desc=title, unit=" tokens", unit_scale=True, delay=5, disable=None)
    with path.open("wb") as file, bar:
        while group := list(islice(marked, PIECES_AT_ONCE)):
            encoded = tokenizer.encode_many([piece for _, piece in group])
            for (follows_document, _), ids in zip(group, encoded, strict=True):
                np.array(separator + ids if follows_document else ids, dtype=np.int32).tofile(file)
            bar.update(sum(map(len, encoded)))


def _marked_pieces(documents: Documents) -> Iterator[tuple[bool, str]]:
    """All pieces in order, each with whether a separator goes before it."""
    for number, document in enumerate(documents.read()):
        for place, piece in enumerate(pieces(document)):
            yield number > 0 and place == 0, piece
