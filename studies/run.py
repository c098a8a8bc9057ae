"""From a study's name to a folder of tables and pictures."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ..errors import UserError
from ..names import nearest
from ..training.progress import watched
from ..training.run_folder import RunFolder, describe_environment
from .registry import STUDIES


@dataclass(frozen=True)
class StudyResult:
    """Where a study lies, and whether there was nothing left to do."""

    folder: Path
    was_finished: bool

    @property
    def files(self) -> list[Path]:
        """Its tables and pictures."""
        return sorted(path for path in self.folder.iterdir() if path.suffix in (".csv", ".png", ".pdf"))


def run_study(name: str, scale: str, seed: int, out: Path) -> StudyResult:
    """Run a study, go on with it, or leave it alone if it is finished.

    Args:
        name: of the registry.
        scale: how large; each study has its own.
        seed: of all its random streams.
        out: the study's folder is ``OUT/<name>/<scale>-seed<seed>-<settings>``. It is named after a digest of the
            scale's settings, so a study whose settings have changed begins anew.

    Raises:
        UserError: there is no such study or scale, or another living process works in the folder.
    """
    if name not in STUDIES:
        raise UserError(f"study {name} is not known; {nearest(name, STUDIES)}")
    module = import_module(f".{name}", __package__)
    folder = RunFolder(out / name / f"{scale}-seed{seed}-{_digest(module, name, scale)}")
    with folder.lock():
        if folder.is_finished():
            return StudyResult(folder.path, was_finished=True)
        start, before = time.perf_counter(), float(folder.read_status().get("seconds", 0.0))
        settings = module.SCALES[scale].model_dump(mode="json")
        folder.write_status(
            state="running", study=name, scale=scale, seed=seed, settings=settings, **describe_environment()
        )
        state = "failed"
        try:
            module.study(folder.path, scale, seed, watched)
            state = "done"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        finally:
            folder.write_status(state=state, seconds=round(before + time.perf_counter() - start, 1))
    return StudyResult(folder.path, was_finished=False)


def _digest(module: ModuleType, name: str, scale: str) -> str:
    """Eight hexadecimal digits that stand for the settings of a scale."""
    if scale not in module.SCALES:
        raise UserError(f"--scale {scale}: {name} has {', '.join(module.SCALES)}")
    text = json.dumps(module.SCALES[scale].model_dump(mode="json"), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
