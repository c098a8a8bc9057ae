"""Many spectra of one model at fixed weights, one after another or in several processes, with a cache on disk.

Each spectrum depends on ``Inputs`` and its ``Job`` alone, so neither order nor number of processes changes a bit of it.
Finished probes go into a ``SpectrumCache``: an interrupted measurement continues from there.
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
from ..errors import UserError, one_line
from ..memory import keep_freed_memory
from ..tasks.base import Batch, Loss
from ..tasks.problem import Problem
from .block_spectra import Effort, measure_blocks
from .blocks import Block
from .operators import batch_norm_statistics
from .settings import BatchNorm
from .slq import FEWEST_PROBES
from .spectrum import Spectrum

AT_ONCE = 10
"""Products computed together, of small blocks and of any on a GPU."""

LARGE_BLOCK = 50_000
"""On a CPU, products of larger blocks are computed one by one: together they take more memory and no less time."""

LARGEST_BASIS = 4 * 2**30
"""Bytes of Lanczos vectors up to which all of a block's vectors stay in memory for reorthogonalisation."""

BYTES_PER_NUMBER = 8

INPUTS_FILE = "inputs.pt"
"""Where worker processes find the weights, the batches and the preconditioner."""

Matrix = Literal["hessian", "adam"]
"""The Hessian, or D^{-1/2} H D^{-1/2} with Adam's preconditioner D."""

Build = Callable[[], Problem]
"""Builds a problem whose model has the same parameters, with any values; must be picklable."""


@dataclass(frozen=True)
class Job:
    """One spectrum to be measured: that of a block of one of the matrices."""

    matrix: Matrix
    block: Block


@dataclass(frozen=True)
class Inputs:
    """All that a spectrum depends on, apart from its job.

    Attributes:
        model: in any mode; unchanged afterwards.
        loss: from the model and a batch to the summed loss and the number of its terms.
        batches: the loss is the mean over the terms of all of them.
        scale: D, one tensor per parameter; needed for the matrix ``adam`` only.
        effort: how exact.
        seed: of the probes.
        batch_norm: which statistics the model's BatchNorm layers have been given by ``batch_norm_statistics``.
    """

    model: nn.Module
    loss: Loss
    batches: Sequence[Batch]
    scale: Mapping[str, Tensor]
    effort: Effort
    seed: int
    batch_norm: BatchNorm = "running"

    def measure(self, job: Job, folder: Path) -> Spectrum:
        """The spectrum of a job, from the probes cached in ``folder`` and those still missing.

        Raises:
            FloatingPointError: a product with the matrix is NaN or infinite.
            UserError: see ``HessianOperator``.
        """
        parameters = dict(self.model.named_parameters())
        size = job.block.size(parameters)
        on_cpu = next(iter(parameters.values())).device.type == "cpu"
        basis = BYTES_PER_NUMBER * size * self.effort.steps * min(self.effort.probes, FEWEST_PROBES)
        ((_, spectrum),) = measure_blocks(
            self.model,
            self.loss,
            self.batches,
            [job.block],
            replace(self.effort, reorthogonalize=basis <= LARGEST_BASIS),
            at_once=1 if on_cpu and size > LARGE_BLOCK else AT_ONCE,
            seed=self.seed,
            scale=dict(self.scale) if job.matrix == "adam" else None,
            cache=SpectrumCache(folder / job.matrix),
        )
        return spectrum

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits: a hash of all that a spectrum depends on, apart from its job."""
        hashed = hashlib.blake2b(digest_size=8)
        device = str(next(self.model.parameters()).device.type)
        hashed.update(json.dumps([__version__, torch.__version__, device, self.seed, repr(self.effort)]).encode())
        for name, value in self._named_values():
            hashed.update(name.encode())
            hashed.update(_bytes(value) if isinstance(value, Tensor) else repr(value).encode())
        return hashed.hexdigest()

    def _named_values(self) -> Iterator[tuple[str, Any]]:
        yield from self.model.state_dict().items()
        yield from sorted(self.scale.items())
        for batch in self.batches:
            yield from batch.items()


def measure_jobs(
    inputs: Inputs, jobs: Sequence[Job], folder: Path, processes: int, build: Build | None
) -> Iterator[tuple[Job, Spectrum]]:
    """The spectrum of each job, in the order in which they finish.

    Args:
        inputs: what they depend on; a model on a GPU is measured in this process.
        jobs: the longest first.
        folder: of the cache.
        processes: how many at a time.
        build: builds the model in each process; None measures everything in this process.

    Raises:
        FloatingPointError: a product with the matrix is NaN or infinite.
        UserError: see ``HessianOperator``; or a process died.
    """
    on_gpu = next(inputs.model.parameters()).device.type != "cpu"
    if build is None or on_gpu or min(processes, len(jobs)) == 1:
        for job in jobs:
            yield job, inputs.measure(job, folder)
    else:
        yield from _measure_in_processes(inputs, jobs, folder, min(processes, len(jobs)), build)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside, as in the worker processes: the number of threads changes how sums are rounded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class SpectrumCache(MutableMapping[str, Spectrum]):
    """Spectra in a folder, one file per name, replaced atomically; several processes may share the folder.

    Args:
        folder: created on the first write.
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
            # A file that cannot be read is measured again.
            raise KeyError(name) from None

    def __delitem__(self, name: str) -> None:
        self._path(name).unlink()

    def __iter__(self) -> Iterator[str]:
        return (unquote(path.stem) for path in sorted(self._folder.glob("*.npz")))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _path(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.npz"


def _measure_in_processes(
    inputs: Inputs, jobs: Sequence[Job], folder: Path, processes: int, build: Build
) -> Iterator[tuple[Job, Spectrum]]:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"model": inputs.model.state_dict(), "batches": list(inputs.batches), "scale": dict(inputs.scale)}
    torch.save(tensors, folder / INPUTS_FILE)
    recipe = _Recipe(build, inputs.effort, inputs.seed, inputs.batch_norm, folder)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start_worker, (recipe,))
    try:
        running = {pool.submit(_measure, job): job for job in jobs}
        for done in as_completed(running):
            job = running[done]
            _raise_error_of(done, job)
            yield job, SpectrumCache(folder / job.matrix)[job.block.name]
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _raise_error_of(done: Future[None], job: Job) -> None:
    """Raise what went wrong in a process, as one line."""
    try:
        done.result()
    except (UserError, FloatingPointError):
        raise
    except BrokenProcessPool:
        raise UserError("hessian.processes: a process died, perhaps for want of memory; try fewer") from None
    except Exception as error:
        reason = one_line(error)
        raise UserError(f"the curvature of {job.block.name}: {type(error).__name__}: {reason}") from error


@dataclass(frozen=True)
class _Recipe:
    """What a worker process rebuilds its inputs from, beside the tensors in the folder."""

    build: Build
    effort: Effort
    seed: int
    batch_norm: BatchNorm
    folder: Path


_RECIPES: list[_Recipe] = []
"""In a worker process: its recipe."""


def _start_worker(recipe: _Recipe) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    _RECIPES.append(recipe)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _measure(job: Job) -> None:
    """The result is in the cache."""
    inputs = _worker_inputs()
    statistics: BatchNorm = "batch" if inputs.batch_norm == "batch" else "running"
    with batch_norm_statistics(inputs.model, inputs.loss, (), statistics):
        inputs.measure(job, _RECIPES[0].folder)


@cache
def _worker_inputs() -> Inputs:
    (recipe,) = _RECIPES
    tensors = torch.load(recipe.folder / INPUTS_FILE, weights_only=True)
    problem = recipe.build()
    # Calibrated statistics come with the weights; a model that uses those of the batch has none.
    problem.model.load_state_dict(tensors["model"], strict=recipe.batch_norm != "batch")
    return Inputs(
        problem.model,
        problem.loss,
        tensors["batches"],
        tensors["scale"],
        recipe.effort,
        recipe.seed,
        recipe.batch_norm,
    )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
