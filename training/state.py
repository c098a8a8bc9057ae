"""Everything of a run that a checkpoint must hold for the run to go on as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class TrainingState:
    """The moving parts of a run.

    There is no random generator among them: every random stream is derived from the seed and the step.

    Attributes:
        step: optimizer steps taken.
        examples: training examples seen.
        tokens: training tokens seen, padding not counted.
        rows: rows of metrics.csv.
        losses: mean loss of each step since the last training row of metrics.csv; scalars on the device.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    examples: int = 0
    tokens: int = 0
    rows: int = 0
    losses: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        # As torch's schedulers do: the full rate stays beside the current one, in checkpoints too.
        for group in self.optimizer.param_groups:
            if "lr" in group:
                group.setdefault("initial_lr", group["lr"])

    def to_checkpoint(self) -> dict[str, Any]:
        """Tensors and plain values only, so that loading them executes nothing."""
        return {
            "step": self.step,
            "examples": self.examples,
            "tokens": self.tokens,
            "rows": self.rows,
            "losses": [float(loss) for loss in self.losses],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Take over what ``to_checkpoint`` gave.

        Raises:
            ValueError: it is of another model or optimizer.
        """
        try:
            self._restore(checkpoint)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"is of another model or optimizer: {reason}") from error

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.step, self.examples, self.tokens = checkpoint["step"], checkpoint["examples"], checkpoint["tokens"]
        self.rows = checkpoint.get("rows", 0)
        device = next(self.model.parameters()).device
        self.losses = [torch.tensor(loss, device=device) for loss in checkpoint["losses"]]
