"""Sweeps that a study file takes over from another one, so that both read the same runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..configs.errors import ConfigError
from ..configs.load import read_yaml
from ..names import nearest


def take_over_sweeps(study: dict[str, Any], path: Path) -> dict[str, Any]:
    """A study in which each sweep ``{of: STUDY}`` is that study's, of the same scale and name.

    Args:
        study: what ``path`` holds; whatever else is wrong with it is left to who validates it.
        path: of the file; the other study lies beside it.

    Raises:
        ConfigError: there is no such sweep; the line names the key and what there is.
    """
    # Scales may be one and the same group, by an alias of YAML, so nothing is changed in place.
    changed = {
        scale: study["scales"][scale]
        | {
            "sweeps": {
                name: _find(sweep, scale, name, path) if _is_taken_over(sweep) else sweep
                for name, sweep in sweeps.items()
            }
        }
        for scale, sweeps in _sweeps_by_scale(study)
    }
    return study | {"scales": study["scales"] | changed} if changed else study


def _sweeps_by_scale(study: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    scales = study.get("scales")
    for scale, content in scales.items() if isinstance(scales, dict) else ():
        sweeps = content.get("sweeps") if isinstance(content, dict) else None
        if isinstance(sweeps, dict):
            yield scale, sweeps


def _is_taken_over(sweep: Any) -> bool:
    return isinstance(sweep, dict) and "of" in sweep


def _find(sweep: dict[str, Any], scale: str, name: str, path: Path) -> Any:
    try:
        return _look_up(sweep, scale, name, path.parent)
    except LookupError as error:
        raise ConfigError(str(path), [f"scales.{scale}.sweeps.{name}: {error.args[0]}"]) from None


def _look_up(sweep: dict[str, Any], scale: str, name: str, folder: Path) -> Any:
    if len(sweep) > 1:
        raise LookupError(f"a sweep of another study is taken as it is; leave out all but of: {sweep['of']}")
    study = str(sweep["of"])
    files = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    if study not in files:
        raise LookupError(f"of: there is no study {study}; {nearest(study, files)}")
    sweeps = dict(_sweeps_by_scale(read_yaml(files[study]))).get(scale, {})
    if name not in sweeps:
        raise LookupError(f"of: {study} has no such sweep at this scale; {nearest(str(name), map(str, sweeps))}")
    if _is_taken_over(sweeps[name]):
        raise LookupError(f"of: {study} has it of a study itself; name that one")
    return sweeps[name]
