"""The digest of loaded data: 32 hexadecimal digits that change when a training or an evaluation example does.

It stands for what the model is trained on, so the same data have the same digest on every machine:

=====================  ================================================================================================
running text           its token ids
questions              every question with its context and answers, and the vocabulary
images in memory       pixels and labels
image files            their names below the folder, labels and contents; of more than ``READ_BYTES`` altogether the
                       sizes of all and the contents of ``SAMPLED`` of them
computed data          the settings: rounding differs between machines
a user's own examples  what ``SAMPLED`` of them yield for epoch 0, evenly spread; all, where there are no more
=====================  ================================================================================================
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import cached_file, content_digest
from ..errors import UserError
from ..settings import Settings
from .base import Data, Examples, Images, NoisyQuadratic, Questions, Text

if TYPE_CHECKING:
    from torch import Tensor

SAMPLED = 256
READ_BYTES = 2**31


def data_digest(data: Data) -> str:
    """The digest of loaded data, see above; the random streams are left as they were."""
    if data.digest is not None:
        return data.digest()
    match data:
        case Text():
            parts = [tensor_digest(data.train), tensor_digest(data.evaluation)]
            parts += [str(data.block_size), str(data.tokenizer.vocab_size)]
        case Questions():
            vocabulary = sorted(data.tokenizer.backend.get_vocab().items())
            parts = [json.dumps([asdict(q) for q in part]) for part in (data.train, data.evaluation)]
            parts.append(json.dumps(vocabulary))
        case Images():
            parts = [examples_digest(data.train), examples_digest(data.evaluation), *data.classes]
        case NoisyQuadratic():
            parts = [examples_digest(data.train), examples_digest(data.evaluation), tensor_digest(data.hessian)]
    return content_digest(*parts)


def settings_digest(settings: Settings) -> str:
    """Of data that are computed from their settings alone; keys at their default are left out, as a later one is."""
    return content_digest(settings.model_dump_json(exclude_defaults=True))


def tensor_digest(tensor: Tensor) -> str:
    """Of a tensor's dtype, shape and values, bit by bit."""
    import torch

    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    name = f"{tensor.dtype} {list(tensor.shape)} ".encode()
    return hashlib.blake2b(content, digest_size=16, key=hashlib.blake2b(name).digest()).hexdigest()


def files_digest(root: Path, files: Sequence[tuple[str, int]]) -> str:
    """Of labelled files, in order; kept in the cache until one of them has another size or time of change.

    Args:
        root: the folder from which the names count: a copy of the folder elsewhere has the same digest.
        files: paths with their labels.

    Raises:
        UserError: a file cannot be read.
    """
    names = [f"{Path(file).relative_to(root).as_posix()} {label}" for file, label in files]
    try:
        states = [Path(file).stat() for file, _ in files]
    except OSError as error:
        raise UserError(f"data.path: cannot read {error.filename}: {error.strerror}") from error
    listing = content_digest(
        str(root), *(f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in zip(names, states, strict=True))
    )

    def build(path: Path) -> None:
        count = len(files)
        everything = sum(state.st_size for state in states) <= READ_BYTES
        read = range(count) if everything else _spread(count)
        parts = [f"{name} {state.st_size}" for name, state in zip(names, states, strict=True)]
        try:
            for index in read:
                with open(files[index][0], "rb") as file:
                    parts.append(hashlib.file_digest(file, "blake2b").hexdigest())
        except OSError as error:
            raise UserError(f"data.path: cannot read {error.filename}: {error.strerror}") from error
        path.write_text(content_digest(*parts))

    return cached_file(f"digests/{listing}.txt", build).read_text()


def examples_digest(examples: Examples) -> str:
    """What ``examples.digest()`` says, if there is such a method; else that of a sample of what they yield.

    Examples that yield something else each time for the same key have their length, names and shapes counted alone.
    """
    if callable(own := getattr(examples, "digest", None)):
        return str(own())
    indices = _spread(len(examples))
    with _kept_random_streams():
        few = indices[:4]
        repeatable = _yielded(examples, few, values=True) == _yielded(examples, few, values=True)
        return content_digest(str(len(examples)), *_yielded(examples, indices, values=repeatable))


def _spread(count: int) -> Sequence[int]:
    return range(count) if count <= SAMPLED else [index * count // SAMPLED for index in range(SAMPLED)]


def _yielded(examples: Examples, indices: Sequence[int], values: bool) -> list[str]:
    return [_shown(examples.batch([(0, index)]), values) for index in indices]


def _shown(value: Any, values: bool) -> str:
    import numpy as np
    import torch

    if isinstance(value, dict):
        return content_digest(*(part for key in value for part in (str(key), _shown(value[key], values))))
    if isinstance(value, list | tuple):
        return content_digest(*(_shown(part, values) for part in value))
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        value = torch.as_tensor(value)
    if isinstance(value, torch.Tensor):
        return tensor_digest(value) if values else f"{value.dtype} {list(value.shape)}"
    known = isinstance(value, str | bytes | int | float | None)
    return repr(value) if known and values else type(value).__name__


@contextmanager
def _kept_random_streams() -> Iterator[None]:
    import numpy as np
    import torch

    # A user's examples may draw from them, and the model's dropout draws from them later.
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
