"""Data-parallel training: the processes that torchrun starts, their collectives, a replicated model, SyncBatchNorm."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..configs.schema import Training
from ..errors import DivergedError, UserError, one_line
from ..models.modules import uses_batch_statistics
from ..tasks.problem import Problem
from .devices import choose_device
from .signals import Interrupted

TIMEOUT = timedelta(hours=24)
"""The other ranks wait this long for the first one, which evaluates and measures alone."""

PROPAGATED_TYPES: tuple[type[Exception], ...] = (DivergedError, Interrupted, UserError, OSError)
"""Errors that keep their type on the other ranks; the rest are a RuntimeError there."""

MESSAGE_BYTES = 2000
"""Length of an error's text on the other ranks."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; without arguments, a single process.

    All ranks hold the same weights and take the same steps. The batch of the config is split over the ranks; losses and
    gradients are summed. Rank 0 alone writes, prints and measures.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes, prints and measures."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether this is the only process."""
        return self.size == 1

    @property
    def seed_suffix(self) -> tuple[int, ...]:
        """What makes this rank's dropout differ from that of the others; nothing on rank 0."""
        return () if self.is_first else (self.rank,)

    def share(self, batch_size: int) -> slice:
        """This rank's examples of a batch.

        Raises:
            UserError: there are fewer examples than ranks.
        """
        if batch_size < self.size:
            raise UserError(f"training.batch_size: {batch_size} examples cannot be split over {self.size} processes")
        return slice(self.rank, None, self.size)

    def device(self, name: str) -> torch.device:
        """This rank's device: that of ``training.device``, or of several GPUs the one of ``local_rank``.

        Raises:
            UserError: the device is not there, or there are fewer of them than processes.
        """
        device = choose_device(name)
        if self.is_single or device.type == "cpu":
            return device
        if device.type != "cuda" or device.index is not None:
            raise UserError(f"training.device: {name} is one device for {self.size} processes; say cuda or cpu")
        if self.local_rank >= torch.cuda.device_count():
            raise UserError(f"torchrun --nproc-per-node: {torch.cuda.device_count()} GPUs here, one for each process")
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over all ranks, in place.

        Raises:
            ConnectionError: another rank is lost.
        """
        if self.is_single:
            return
        with _detecting_lost_ranks():
            works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
            for work in works:
                work.wait()

    def all_gather(self, *values: int) -> list[list[int]]:
        """For each value, a list of every rank's, by rank.

        Raises:
            ConnectionError: another rank is lost.
        """
        if self.is_single:
            return [[value] for value in values]
        own = torch.tensor(values, dtype=torch.int64)
        with _detecting_lost_ranks():
            of_all = [torch.empty_like(own) for _ in range(self.size)]
            dist.all_gather(of_all, own)
        return torch.stack(of_all, dim=1).tolist()

    @contextmanager
    def propagate_errors(self) -> Iterator[None]:
        """A barrier at the end of this context; an error of one rank is raised on all of them.

        Raises:
            ConnectionError: another rank is lost.
        """
        if self.is_single:
            yield
            return
        failure = None
        try:
            yield
        except Exception as error:
            failure = error
        (has_failed,) = self.all_gather(failure is not None)
        if any(has_failed):
            received = self._broadcast_error(failure, source=has_failed.index(True))
            raise failure or received

    def _broadcast_error(self, failure: Exception | None, source: int) -> Exception:
        """The failure of rank ``source``, sent as type name and text: nothing that is received is executed."""
        message = torch.zeros(MESSAGE_BYTES, dtype=torch.uint8)
        if failure is not None:
            kind = next((kind for kind in PROPAGATED_TYPES if isinstance(failure, kind)), None)
            name, text = (kind.__name__, failure) if kind else ("", f"{type(failure).__name__}: {failure}")
            encoded = f"{name}\n{text}".encode()[:MESSAGE_BYTES]
            message[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
        with _detecting_lost_ranks():
            dist.broadcast(message, src=source)
        name, _, text = bytes(message.tolist()).rstrip(b"\0").decode(errors="replace").partition("\n")
        return {kind.__name__: kind for kind in PROPAGATED_TYPES}.get(name, RuntimeError)(text)


SINGLE = Ranks()


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join the process group of torchrun; ``SINGLE`` if torchrun has not started this process.

    CPU tensors go through gloo, without waiting for a GPU; GPU tensors through nccl.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield SINGLE
        return
    has_gpu = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpu else "gloo", timeout=TIMEOUT)
    yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    # Not after an error: it could wait for a rank that is lost, and the process ends anyway.
    dist.destroy_process_group()


@contextmanager
def _detecting_lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = one_line(error)
        raise ConnectionError(f"another process of this run is lost or cannot be reached: {reason}") from error


class Replicated:
    """Every rank holds the full model (``fsdp.Sharded`` is the alternative).

    Attributes:
        problem: what is trained.
        ranks: the processes that train together.
        min_passes: forward passes of each rank in a step, even where its share of the batch needs fewer.
    """

    def __init__(self, problem: Problem, ranks: Ranks = SINGLE) -> None:
        self.problem = problem
        self.ranks = ranks
        self.min_passes = 0

    def reduce_gradients(self, loss: Tensor) -> list[nn.Parameter]:
        """Sum the loss and the gradients over the ranks, in place; returns the parameters that have a gradient."""
        parameters = [parameter for parameter in self.problem.model.parameters() if parameter.grad is not None]
        self.ranks.all_reduce([loss, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
        return parameters

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """The Euclidean norm of all ``tensors``, one for each parameter of ``reduce_gradients``."""
        return nn.utils.get_total_norm(tensors)

    def full_state(self) -> AbstractContextManager[None]:
        """Within this context rank 0 has the full model and optimizer state; every rank enters it."""
        return nullcontext()


def copy_sharing_tensors(model: nn.Module) -> nn.Module:
    """A copy of the modules that shares parameters and buffers with the model."""
    tensors = chain(model.parameters(), model.buffers())
    return deepcopy(model, {id(tensor): tensor for tensor in tensors})


def synchronize_batch_norm(problem: Problem, settings: Training, batch_size: int, ranks: Ranks) -> Problem:
    """The problem to train on; with several ranks and BatchNorm, its model uses SyncBatchNorm.

    A gradient is that of the batch only if BatchNorm sees the full batch in one forward pass. Layers in evaluation mode
    do not use the batch's statistics.

    The given problem's model is left as it is: rank 0 measures with it while the others wait.

    Args:
        problem: its model is in training mode, on the device.
        settings: the ``training`` section.
        batch_size: examples per step, over all ranks.
        ranks: the processes that train together.

    Raises:
        UserError: a step has several forward passes, or the statistics cannot be synchronized, as on a CPU.
    """
    if not uses_batch_statistics(problem.model):
        return problem
    if (settings.micro_batch_size or batch_size) < batch_size:
        raise UserError(
            f"training.micro_batch_size: BatchNorm needs the statistics of the full batch of {batch_size}, "
            f"not of {settings.micro_batch_size} examples; leave it out"
        )
    if ranks.is_single:
        return problem
    if next(problem.model.parameters()).device.type != "cuda":
        raise UserError("torchrun: torch synchronizes BatchNorm between GPUs only; train this model in one process")
    return replace(problem, model=convert_sync_batch_norm(problem.model))


def convert_sync_batch_norm(model: nn.Module) -> nn.Module:
    """A second model of the same parameters and running statistics, with SyncBatchNorm for BatchNorm."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(copy_sharing_tensors(model))
