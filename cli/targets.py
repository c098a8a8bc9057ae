"""What a measuring command is pointed at: a run folder, or a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    from ..configs.schema import Experiment
    from ..training.run_folder import RunFolder


def read_target(target: Path, overrides: list[str], out: Path, section: str) -> tuple[Experiment, RunFolder]:
    """The experiment and its run folder.

    Args:
        target: a run folder, or a config file, whose run folder lies below ``out``.
        overrides: of a run, only its ``section`` and the device can be changed: it stays the same run.
        out: folder for run folders.
        section: of the config, what the command measures.

    Raises:
        UserError: the config cannot be read, or an override would make another run of it.
    """
    from ..configs.load import load_experiment
    from ..training.run_folder import RunFolder

    if not target.is_dir():
        experiment = load_experiment(target, overrides)
        return experiment, RunFolder.of(experiment, out)
    for override in overrides:
        if not override.startswith((f"{section}.", "training.device=")):
            raise UserError(f"-s {override}: of a run, only {section}.* and training.device can be changed")
    return load_experiment(target / "config.yaml", overrides), RunFolder(target)
