"""Several processes, started by torchrun, that train one model together.

How ranks that train together hold their model: each has all of it. ``sharding`` has the other way.

A second model of the same tensors.

BatchNorm whose statistics are those of the whole batch, although every rank sees its share alone.
"""

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
from ..errors import DivergedError, UserError
from ..models.modules import has_batch_norm
from ..tasks.problem import Problem
from .devices import choose_device
from .signals import Interrupted

PATIENCE = timedelta(hours=24)
"""So long the other ranks wait for the first one, which evaluates and measures alone."""

SHARED_KINDS: tuple[type[Exception], ...] = (DivergedError, Interrupted, UserError, OSError)
"""Errors that mean the same on a rank that only hears of them; the rest are a RuntimeError there."""

MESSAGE_BYTES = 2000
"""So much of an error's text is heard by the other ranks."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; without arguments, a process that trains alone.

    All ranks hold the same weights and take the same steps. The config defines the batch of a step: each rank computes
    its share of it, and losses and gradients are summed over the ranks. Rank 0 alone writes, prints and measures.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process among those on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes, prints and measures."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other rank."""
        return self.size == 1

    @property
    def stream(self) -> tuple[int, ...]:
        """What tells this rank's dropout from that of the others; nothing on rank 0."""
        return () if self.is_first else (self.rank,)

    def share(self, batch_size: int) -> slice:
        """Which examples of a batch are this rank's.

        Raises:
            UserError: there are fewer examples than ranks.
        """
        if batch_size < self.size:
            raise UserError(f"training.batch_size: {batch_size} examples cannot be shared by {self.size} processes")
        return slice(self.rank, None, self.size)

    def device(self, name: str) -> torch.device:
        """This rank's device: what ``training.device`` says, or of several GPUs the one for this process.

        Raises:
            UserError: the device is not there, or there are fewer of them than processes.
        """
        device = choose_device(name)
        if self.is_alone or device.type == "cpu":
            return device
        if device.type != "cuda" or device.index is not None:
            raise UserError(f"training.device: {name} is one device for {self.size} processes; say cuda or cpu")
        if self.local_rank >= torch.cuda.device_count():
            raise UserError(f"torchrun --nproc-per-node: {torch.cuda.device_count()} GPUs here, one for each process")
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, which have as many tensors of the same sizes.

        Raises:
            ConnectionError: another rank is gone.
        """
        if self.is_alone:
            return
        with _noticing_lost_ranks():
            works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
            for work in works:
                work.wait()

    def gather(self, *values: int) -> list[list[int]]:
        """For each of the values, that of every rank, by rank.

        Raises:
            ConnectionError: another rank is gone.
        """
        if self.is_alone:
            return [[value] for value in values]
        own = torch.tensor(values, dtype=torch.int64)
        with _noticing_lost_ranks():
            of_all = [torch.empty_like(own) for _ in range(self.size)]
            dist.all_gather(of_all, own)
        return torch.stack(of_all, dim=1).tolist()

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Wait for the others at the end of this block; an error of one rank is raised on all of them.

        Raises:
            ConnectionError: another rank is gone.
        """
        if self.is_alone:
            yield
            return
        failure = None
        try:
            yield
        except Exception as error:
            failure = error
        (has_failed,) = self.gather(failure is not None)
        if any(has_failed):
            told = self._hear_of(failure, speaker=has_failed.index(True))
            raise failure or told

    def _hear_of(self, failure: Exception | None, speaker: int) -> Exception:
        """The failure of the rank ``speaker`` as text and kind: what comes through the network is never executed."""
        message = torch.zeros(MESSAGE_BYTES, dtype=torch.uint8)
        if failure is not None:
            kind = next((kind for kind in SHARED_KINDS if isinstance(failure, kind)), None)
            name, text = (kind.__name__, failure) if kind else ("", f"{type(failure).__name__}: {failure}")
            encoded = f"{name}\n{text}".encode()[:MESSAGE_BYTES]
            message[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
        with _noticing_lost_ranks():
            dist.broadcast(message, src=speaker)
        name, _, text = bytes(message.tolist()).rstrip(b"\0").decode(errors="replace").partition("\n")
        return {kind.__name__: kind for kind in SHARED_KINDS}.get(name, RuntimeError)(text)


ALONE = Ranks()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Meet the other processes that torchrun has started; alone, if it was not torchrun that started this one.

    Small numbers go through gloo and do not wait for a GPU, gradients on GPUs go through nccl.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    has_gpu = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpu else "gloo", timeout=PATIENCE)
    yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    # After an error the process ends anyway; taking leave could wait for a rank that is gone.
    dist.destroy_process_group()


@contextmanager
def _noticing_lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise ConnectionError(f"another process of this run is gone or cannot be reached: {reason}") from error


class Replicated:
    """Every rank holds the whole model, or the only one does.

    Attributes:
        problem: what is trained.
        ranks: those that train together.
        fewest_passes: forward passes that each rank makes in a step, even where fewer do for its share of the batch.
    """

    def __init__(self, problem: Problem, ranks: Ranks = ALONE) -> None:
        """Take over what is trained, and by whom."""
        self.problem = problem
        self.ranks = ranks
        self.fewest_passes = 0

    def add_up(self, loss: Tensor) -> list[nn.Parameter]:
        """Sum the loss and the gradients over the ranks, in place; the parameters that have a gradient."""
        parameters = [parameter for parameter in self.problem.model.parameters() if parameter.grad is not None]
        self.ranks.sum([loss, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
        return parameters

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """The Euclidean norm of tensors that go with the parameters of ``add_up``."""
        return nn.utils.get_total_norm(tensors)

    def whole(self) -> AbstractContextManager[None]:
        """Within this block rank 0 has the whole model and the optimizer's whole state; every rank enters it."""
        return nullcontext()


def twin_of(model: nn.Module) -> nn.Module:
    """A copy whose modules are its own, while parameters and buffers are the model's."""
    tensors = chain(model.parameters(), model.buffers())
    return deepcopy(model, {id(tensor): tensor for tensor in tensors})


def share_batch_norm(problem: Problem, settings: Training, batch_size: int, ranks: Ranks) -> Problem:
    """The problem to train on: with several ranks and BatchNorm, a model that uses the statistics of all ranks.

    The problem's own model is left as it is: rank 0 can measure with that one while the others wait.

    Args:
        problem: its model is in training mode, on the device.
        settings: the ``training`` section.
        batch_size: examples a step, over all ranks.
        ranks: those that train together.

    Raises:
        UserError: the statistics cannot be shared: on a CPU, or where a step has several forward passes.
    """
    if ranks.is_alone or not has_batch_norm(problem.model):
        return problem
    if next(problem.model.parameters()).device.type != "cuda":
        raise UserError(
            "torchrun: torch shares BatchNorm's statistics between GPUs only; train this model in one process"
        )
    if (settings.micro_batch_size or batch_size) < batch_size:
        raise UserError(
            "training.micro_batch_size: BatchNorm's statistics are shared in whole batches only; leave it out"
        )
    return replace(problem, model=synchronised_twin(problem.model))


def synchronised_twin(model: nn.Module) -> nn.Module:
    """A second model of the same tensors, parameters and running statistics, with SyncBatchNorm for BatchNorm."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(twin_of(model))
