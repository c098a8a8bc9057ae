"""Many spectra of one model, one after another or several at a time in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ..errors import UserError
from ..memory import keep_freed_memory
from ..tasks.problem import Problem
from .kept import KeptSpectra
from .site import Site, Target
from .spectra import Effort
from .spectrum import Spectrum

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
