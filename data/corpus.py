"""Running text: from documents to one long row of token ids on disk, and the settings that all its sources share."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PositiveInt

from ..cache import cached_file, content_digest
from ..errors import UserError
from .base import DataSettings, Kind, Text
from .digest import tensor_digest
from .tokenization import (
    Documents,
    Tokenizer,
    TokenizerSettings,
    chunks,
    load_tokenizer,
    use_one_thread,
    warn_of_unknown,
)

if TYPE_CHECKING:
    import torch

FORMAT = "1"
"""Part of every cached token file's name; raised when the same text and tokenizer should give other files."""

CHUNKS_AT_ONCE = 256

COUNTED_AT_ONCE = 2**24


class TextSettings(TokenizerSettings, DataSettings):
    """A source of running text, cut into sequences.

    Attributes:
        block_size: length of one example in tokens.
    """

    kind: ClassVar[Kind] = "text"
    block_size: PositiveInt = 128

    def parts(self) -> tuple[Documents, Documents]:
        """The training part and the part that is held out."""
        raise NotImplementedError

    def load(self, seed: int) -> Text:
        """The text as tokens, from the cache where they are there; nothing in it is drawn.

        The tensors are views of files: they take no memory beyond what is read of them, and must not be written to.

        Raises:
            UserError: a file is missing, damaged or too short; the message is one line and names it.
        """
        parts = self.parts()
        tokenizer = load_tokenizer(self, parts[0])
        keys = [content_digest(FORMAT, part.digest, tokenizer.digest()) for part in parts]
        train, evaluation = (
            _load_tokens(part, tokenizer, self.block_size, key) for part, key in zip(parts, keys, strict=True)
        )
        use_one_thread()
        facts = [_facts(tokens, tokenizer, key) for tokens, key in zip((train, evaluation), keys, strict=True)]
        for part, tokens, known in zip(parts, (train, evaluation), facts, strict=True):
            warn_of_unknown(known["unknown"], len(tokens), part.source)

        def digest() -> str:
            return content_digest(
                *(known["digest"] for known in facts), str(self.block_size), str(tokenizer.vocab_size)
            )

        return Text(train, evaluation, tokenizer, self.block_size, digest)


def _load_tokens(documents: Documents, tokenizer: Tokenizer, block_size: int, key: str) -> torch.Tensor:
    import numpy as np
    import torch

    path = cached_file(f"tokens/{key}.int32", lambda path: _write_tokens(documents, tokenizer, path))
    count = path.stat().st_size // np.dtype(np.int32).itemsize
    if count <= block_size:
        raise UserError(
            f"{documents.source} is too short: it has {count} tokens, and one example takes {block_size + 1}; "
            "give more text, hold out another share of it, or lower data.block_size"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")
        return torch.from_numpy(np.memmap(path, dtype=np.int32, mode="r"))


def _facts(tokens: torch.Tensor, tokenizer: Tokenizer, key: str) -> dict[str, Any]:
    """The digest of the tokens and how many are unknown, from the cache: a corpus of any size is read once for it."""

    def build(path: Path) -> None:
        unknown = sum(int((part == tokenizer.unknown_id).sum()) for part in tokens.split(COUNTED_AT_ONCE))
        path.write_text(json.dumps({"digest": tensor_digest(tokens), "unknown": unknown}))

    facts: dict[str, Any] = json.loads(cached_file(f"tokens/{key}.json", build).read_text())
    return facts


def _write_tokens(documents: Documents, tokenizer: Tokenizer, path: Path) -> None:
    import numpy as np
    from tqdm import tqdm

    marked = _marked_chunks(documents)
    separator = [tokenizer.separator_id]
    title = f"tokens of {documents.source}"
    bar = tqdm(desc=title, unit=" tokens", unit_scale=True, delay=5, disable=None)
    with path.open("wb") as file, bar:
        while group := list(islice(marked, CHUNKS_AT_ONCE)):
            encoded = tokenizer.encode_many([chunk for _, chunk in group])
            for (follows_document, _), ids in zip(group, encoded, strict=True):
                np.array(separator + ids if follows_document else ids, dtype=np.int32).tofile(file)
            bar.update(sum(map(len, encoded)))


def _marked_chunks(documents: Documents) -> Iterator[tuple[bool, str]]:
    """All chunks in order, each with whether a separator precedes it."""
    for number, document in enumerate(documents.read()):
        for place, chunk in enumerate(chunks(document)):
            yield number > 0 and place == 0, chunk
