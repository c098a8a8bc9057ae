"""Many spectra of one model, one after another or several at a time in processes of their own.

Finished work on the disk, so that an interrupted measurement goes on where it was.

A model at fixed weights, and all else that its spectra depend on.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..data.base import Examples
from ..data.batches import BatchOrder
from ..errors import UserError
from ..memory import keep_freed_memory
from ..seeds import derive_seed
from ..tasks.base import Batch
from ..tasks.problem import Problem
from .block_spectra import Effort, measure_blocks
from .blocks import Block
from .operators import Loss
from .settings import HessianSettings
from .slq import FEWEST_PROBES
from .spectrum import Spectrum


class KeptSpectra(MutableMapping[str, Spectrum]):
    """Spectra in a folder, one file a name; each is replaced as a whole, and several processes may share the folder.

    Args:
        folder: made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __setitem__(self, name: str, spectrum: Spectrum) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(file, nodes=spectrum.nodes, weights=spectrum.weights, size=spectrum.size or 0)
        os.replace(temporary, path)

    def __getitem__(self, name: str) -> Spectrum:
        try:
            with np.load(self._path(name)) as file:
                return Spectrum(torch.tensor(file["nodes"]), torch.tensor(file["weights"]), int(file["size"]) or None)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            # What cannot be read is measured again.
            raise KeyError(name) from None

    def __delitem__(self, name: str) -> None:
        self._path(name).unlink()

    def __iter__(self) -> Iterator[str]:
        return (unquote(path.stem) for path in sorted(self._folder.glob("*.npz")))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _path(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.npz"


Matrix = Literal["hessian", "adam"]
"""The Hessian, or D^{-1/2} H D^{-1/2} with Adam's preconditioner D."""

AT_ONCE = 10
"""Products of a smaller block that are computed together, and of any on a GPU."""

BYTES_PER_NUMBER = 8
LARGEST_BASIS = 4 * 2**30
"""Bytes of Lanczos vectors up to which all of a block's are kept, to keep them orthogonal. Large blocks have few
probes."""

LARGE_BLOCK = 50_000
"""On a CPU, products of larger blocks are computed one by one: together they take more memory, and no less time."""


@dataclass(frozen=True)
class Target:
    """One spectrum that is wanted: that of a block of one of the matrices."""

    matrix: Matrix
    block: Block


@dataclass(frozen=True)
class Site:
    """Where a measurement takes place.

    Attributes:
        model: in whatever mode; left as it is.
        loss: from the model and a batch to the summed loss and the number of its terms.
        batches: the loss is the mean over the terms of all of them.
        scale: D, one tensor a parameter; needed for the matrix ``adam`` alone.
        effort: how much is spent on each spectrum.
        seed: of the probes.
    """

    model: nn.Module
    loss: Loss
    batches: Sequence[Batch]
    scale: Mapping[str, Tensor]
    effort: Effort
    seed: int

    def measure(self, target: Target, kept: Path) -> Spectrum:
        """The spectrum of a target, or the rest of it that is not kept yet.

        Args:
            target: which spectrum.
            kept: folder for finished work.

        Raises:
            FloatingPointError: a product with the matrix is no finite number.
            UserError: see ``HessianOperator``.
        """
        parameters = dict(self.model.named_parameters())
        size = target.block.size(parameters)
        on_cpu = next(iter(parameters.values())).device.type == "cpu"
        basis = BYTES_PER_NUMBER * size * self.effort.steps * min(self.effort.probes, FEWEST_PROBES)
        measured = measure_blocks(
            self.model,
            self.loss,
            self.batches,
            [target.block],
            replace(self.effort, reorthogonalize=basis <= LARGEST_BASIS),
            at_once=1 if on_cpu and size > LARGE_BLOCK else AT_ONCE,
            seed=self.seed,
            scale=dict(self.scale) if target.matrix == "adam" else None,
            kept=KeptSpectra(kept / target.matrix),
        )
        ((_, spectrum),) = measured
        return spectrum


def fixed_batches(examples: Examples, settings: HessianSettings, seed: int) -> list[Batch]:
    """The batches of every measurement of a run, so that its steps can be compared; no example comes twice.

    Raises:
        UserError: there are not that many examples.
    """
    size = settings.batch_size
    wanted = settings.batches * size
    if wanted > len(examples):
        raise UserError(
            f"hessian.batch_size: {settings.batches} x {size} examples do not fit into the {len(examples)} to train on"
        )
    keys = BatchOrder(len(examples), wanted, derive_seed(seed, "hessian")).keys(0)
    return [examples.batch(keys[start : start + size]) for start in range(0, wanted, size)]


def fingerprint(site: Site) -> str:
    """Sixteen hexadecimal digits that stand for all that a spectrum at this site depends on, its block aside."""
    hashed = hashlib.blake2b(digest_size=8)
    device = str(next(site.model.parameters()).device.type)
    hashed.update(json.dumps([__version__, torch.__version__, device, site.seed, repr(site.effort)]).encode())
    for name, value in _named_values(site):
        hashed.update(name.encode())
        hashed.update(value if isinstance(value, bytes) else _bytes(value))
    return hashed.hexdigest()


def _named_values(site: Site) -> Iterator[tuple[str, Any]]:
    yield from site.model.state_dict().items()
    yield from sorted(site.scale.items())
    for batch in site.batches:
        for name, value in batch.items():
            yield name, value if isinstance(value, Tensor) else repr(value).encode()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


Build = Callable[[], Problem]
"""Makes a problem whose model has the same parameters as the site's, with whatever values; must be picklable."""

TENSORS = "site.pt"
"""File in which the processes find the weights, the batches and the preconditioner."""


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside, as in the processes: with another number of threads sums are rounded in another way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def measure_targets(
    site: Site, targets: Sequence[Target], kept: Path, processes: int, build: Build | None
) -> Iterator[tuple[Target, Spectrum]]:
    """The spectrum of each target, in the order in which they are finished; the numbers depend on no order.

    Args:
        site: where; on a GPU everything is done by this process.
        targets: what; those that take longest had better come first.
        kept: folder for finished work.
        processes: how many at a time.
        build: what each process builds the model with; None keeps everything in this process.

    Raises:
        FloatingPointError: a product with the matrix is no finite number.
        UserError: see ``HessianOperator``; or a process died.
    """
    on_gpu = next(site.model.parameters()).device.type != "cpu"
    if build is None or on_gpu or min(processes, len(targets)) == 1:
        for target in targets:
            yield target, site.measure(target, kept)
    else:
        yield from _share_out(site, targets, kept, min(processes, len(targets)), build)


def _share_out(
    site: Site, targets: Sequence[Target], kept: Path, processes: int, build: Build
) -> Iterator[tuple[Target, Spectrum]]:
    kept.mkdir(parents=True, exist_ok=True)
    tensors = {"model": site.model.state_dict(), "batches": list(site.batches), "scale": dict(site.scale)}
    torch.save(tensors, kept / TENSORS)
    recipe = _Recipe(build, site.effort, site.seed, kept)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (recipe,))
    try:
        running = {pool.submit(_measure, target): target for target in targets}
        for done in as_completed(running):
            target = running[done]
            _refuse_failure(done, target)
            yield target, KeptSpectra(kept / target.matrix)[target.block.name]
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_failure(done: Future[None], target: Target) -> None:
    """What went wrong in a process, without its traceback."""
    try:
        done.result()
    except (UserError, FloatingPointError):
        raise
    except BrokenProcessPool:
        raise UserError("hessian.processes: a process died, perhaps for want of memory; try fewer") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the curvature of {target.block.name}: {type(error).__name__}: {reason}") from error


@dataclass(frozen=True)
class _Recipe:
    """What a process makes its own site from, beside the tensors in the folder of kept work."""

    build: Build
    effort: Effort
    seed: int
    kept: Path


_RECIPES: list[_Recipe] = []
"""In a process that measures: its recipe."""


def _begin(recipe: _Recipe) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    _RECIPES.append(recipe)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _measure(target: Target) -> None:
    """The result is what is kept."""
    _site().measure(target, _RECIPES[0].kept)


@cache
def _site() -> Site:
    (recipe,) = _RECIPES
    tensors = torch.load(recipe.kept / TENSORS, weights_only=True)
    problem = recipe.build()
    problem.model.load_state_dict(tensors["model"])
    return Site(
        problem.model,
        problem.loss,
        tensors["batches"],
        tensors["scale"],
        recipe.effort,
        recipe.seed,
    )
