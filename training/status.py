"""status.json: what became of a run or of a study, and what it was made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..configs.errors import explain
from ..errors import UserError, printable


class Status(BaseModel, extra="allow", strict=True):
    """The keys that somebody reads; a run has no study, and a study no steps."""

    state: str = ""
    step: int = 0
    last_train_loss: float | None = None
    last_eval_loss: float | None = None
    best_eval_loss: float | None = None
    seconds_training: float = 0.0
    seconds_measuring: float = 0.0
    error: str | None = None
    device: str = ""
    git_commit: str | None = None
    versions: dict[str, str] = {}
    study: str = ""
    scale: str = ""
    settings: dict[str, Any] = {}
    seconds: float = 0.0


def read_status(path: Path) -> dict[str, Any]:
    """The content of a status.json.

    Raises:
        UserError: it cannot be read, or a key holds what it should not.
    """
    try:
        return Status.model_validate_json(path.read_bytes()).model_dump(exclude_unset=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise UserError(f"{path}: {printable(explain(error)[0].removeprefix(': '))}") from None
