"""Text of any size through the `datasets` library: sets of the Hugging Face hub, or local folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt, field_validator

from ..cache import content_digest, local_folder
from ..errors import UserError
from ..settings import Settings
from .corpus import TextSettings
from .tokenization import Documents, lone_surrogate

Part = Literal["train", "evaluation"]


class HubSource(Settings):
    """A set that ``datasets.load_dataset(path, name, split=…)`` loads; each row is a document.

    Attributes:
        path: hub id, or a local folder of text, JSON, CSV or Parquet files.
        name: the set's configuration, as in ``20231101.en``.
        split: what to train on.
        evaluation_split: what to evaluate on; without it, the first documents of ``split`` are held out.
        evaluation_documents: how many are held out then.
        max_documents: train on no more than that many.
        text_column: the column with the text.
        revision: commit of the hub's set. While these keys and the local files stay, the set is taken as unchanged.
    """

    path: str
    name: str | None = None
    split: str = "train"
    evaluation_split: str | None = None
    evaluation_documents: PositiveInt = 1000
    max_documents: PositiveInt | None = None
    text_column: str = "text"
    revision: str | None = None

    def version(self) -> str:
        """Changes when the keys or the local files do."""
        folder = local_folder(self.path, "data.sources.path")
        files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
        listing = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return json.dumps([self.model_dump(), listing])

    def documents(self, part: Part, streaming: bool) -> Iterator[str]:
        """The documents of one part."""
        if part == "evaluation":
            if self.evaluation_split is not None:
                return self._texts(self.evaluation_split, streaming)
            return islice(self._texts(self.split, streaming), self.evaluation_documents)
        held_out = self.evaluation_documents if self.evaluation_split is None else 0
        return islice(islice(self._texts(self.split, streaming), held_out, None), self.max_documents)

    def _texts(self, split: str, streaming: bool) -> Iterator[str]:
        """The text of every row that has one."""
        key, column = "data.sources.path", self.text_column
        read = rows(self.path, key, split=split, name=self.name, revision=self.revision, streaming=streaming)
        for number, row in enumerate(read, start=1):
            if column not in row:
                raise UserError(f"data.sources.text_column: {self.path} has no {column}, only {', '.join(row)}")
            text = row[column]
            if text is None:
                continue
            where = f"row {number} of {self.path}, split {split}"
            if not isinstance(text, str):
                kind = type(text).__name__
                raise UserError(f"data.sources.text_column: {column} is {text!r:.60} ({kind}) in {where}; not a text")
            if damage := lone_surrogate(text):
                raise UserError(f"data.sources.path: {column} has {damage} in {where}")
            if text.strip():
                yield text


class HFText(TextSettings):
    """Any text of the Hugging Face hub, or a local folder, read by `datasets`.

    Attributes:
        sources: one set or several, one after the other.
        streaming: read documents while they arrive instead of downloading the whole set first; the tokens are the same.
    """

    paper = "Lhoest et al. 2021, Datasets: A Community Library for Natural Language Processing"

    name: Literal["hf_text"] = "hf_text"
    sources: tuple[HubSource, ...]
    streaming: bool = False

    @field_validator("sources")
    @classmethod
    def _has_one(cls, sources: tuple[HubSource, ...]) -> tuple[HubSource, ...]:
        if not sources:
            raise ValueError("give at least one")
        return sources

    def parts(self) -> tuple[Documents, Documents]:
        """The documents of all sources; nothing is downloaded before they are read."""
        return self._part("train"), self._part("evaluation")

    def _part(self, part: Part) -> Documents:
        def read() -> Iterator[str]:
            for source in self.sources:
                yield from source.documents(part, self.streaming)

        names = " + ".join(source.path for source in self.sources)
        digest = content_digest("hf_text", part, *(source.version() for source in self.sources))
        return Documents(f"the {part} part of {names}", digest, read)


def rows(
    path: str, key: str, *, split: str, name: str | None = None, revision: str | None = None, streaming: bool = False
) -> Iterator[dict[str, Any]]:
    """The rows of ``datasets.load_dataset(path, name, split=split)``.

    Args:
        path: hub id or local folder.
        key: the config key that gave ``path``, for error messages.
        split: name of the split.
        name: the set's configuration.
        revision: commit of the hub's set.
        streaming: give rows while they arrive.

    Raises:
        UserError: `datasets` is not installed, or cannot load that; the message is one line.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{key}: {path} needs the package datasets: pip install datasets") from error
    folder = local_folder(path, key)
    source = str(folder or path)
    try:
        yield from datasets.load_dataset(source, name=name, split=split, revision=revision, streaming=streaming)
    except Exception as error:  # of its own, pyarrow's, fsspec's and of whatever decodes a column
        reasons = [str(each).strip().partition("\n")[0] for each in (error, error.__cause__) if each is not None]
        reason = ": ".join(filter(None, reasons)) or type(error).__name__
        reason += _damaged_line(Path(source)) if folder else ""
        raise UserError(f"{key}: cannot load {path}, split {split}: {reason}") from error


def _damaged_line(folder: Path) -> str:
    """The first line of a folder's JSON-lines files that is none, for a message; empty where there is no such line."""
    for file in sorted(folder.rglob("*.jsonl")):
        for number, line in enumerate(file.read_bytes().splitlines(), start=1):
            try:
                damaged = line.strip() and lone_surrogate(json.dumps(json.loads(line), ensure_ascii=False))
            except ValueError:
                damaged = "no JSON"
            if damaged:
                return f" ({file}, line {number})"
    return ""
