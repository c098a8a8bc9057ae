"""kill -9 at any moment loses nothing but time: started again, the run ends in the bytes of one that was not killed."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_operation(number: int) -> Callable[[], None]:
    """Count every opening of a file to write, every rename, removal and new folder; die when about to do ``number``."""
    done = -1

    def track(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        if event in OPERATIONS and (event != "open" or _is_written(arguments)):
            done += 1
            if done == number:
                die()

    return lambda: sys.addaudithook(track)


def _is_written(arguments: tuple[Any, ...]) -> bool:
    return isinstance(arguments[1], str) and not arguments[1].startswith("r")


def kill_before_operation(victim: Any, number: int) -> bool:
    """Whether the run had that many."""
    child = victim.start(die_before_operation(number))
    child.join()
    return child.exitcode == -signal.SIGKILL


@pytest.mark.faults
@pytest.mark.parametrize("number", [37, 84])
def test_killed_before_a_file_operation(victim: Any, number: int) -> None:
    """Some of those of the next test, which is slow."""
    assert kill_before_operation(victim, number)
    victim.ends_like_undisturbed()


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_before_every_file_operation(victim: Any) -> None:
    """Catches any order of writing, renaming and removing files in which a kill leaves something half done."""
    number = 0
    while kill_before_operation(victim, number):
        victim.ends_like_undisturbed()
        shutil.rmtree(victim.out)
        number += 1
    print(f"killed before each of {number} file operations")
    assert number > 80


@pytest.mark.faults
def test_killed_while_a_checkpoint_is_written(victim: Any) -> None:
    """Half of its bytes are on the disk."""
    whole_save, saved = torch.save, 0

    def half_save(content: Any, file: Any) -> None:
        nonlocal saved
        saved += 1
        if saved < 3:
            return whole_save(content, file)
        buffer = io.BytesIO()
        whole_save(content, buffer)
        file.write(buffer.getvalue()[: buffer.tell() // 2])
        file.flush()
        return die()

    child = victim.start(lambda: setattr(torch, "save", half_save))
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert (victim.folder.checkpoints / "unfinished.tmp").stat().st_size > 500
    victim.ends_like_undisturbed()


@pytest.mark.faults
def test_killed_again_and_again(victim: Any) -> None:
    """Each attempt is killed a little later than the one before, so that some make progress and most do not."""
    kills = 0
    for number in range(4, 400, 30):
        if not kill_before_operation(victim, number):
            break
        kills += 1
    assert kills >= 3
    victim.ends_like_undisturbed()


def kill_at_random_moments(victim: Any, moments: int) -> None:
    """As often as it takes to cut so many runs short."""
    start = time.monotonic()
    victim.start().join()
    duration = time.monotonic() - start
    shutil.rmtree(victim.out)
    generator = random.Random(0)
    cut_short = tries = 0
    while cut_short < moments:
        tries += 1
        assert tries <= 2 * moments + 2, f"only {cut_short} runs of {duration:.1f} s were cut short"
        moment = generator.uniform(0, duration)
        child = victim.start()
        time.sleep(moment)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        if victim.folder.read_status().get("state") == "done":
            duration = moment  # the first run was slower than those that follow
        else:
            cut_short += 1
        victim.ends_like_undisturbed()
        shutil.rmtree(victim.out)
    print(f"{cut_short} of {tries} runs of {duration:.1f} s were cut short")


def gpt2_with_workers(config: dict[str, Any]) -> dict[str, Any]:
    config["training"] |= {"steps": 30, "checkpoint_every": 4, "eval_every": 5, "workers": 2}
    return config | {"schedule": {"name": "cosine", "warmup_steps": 5}}


@pytest.mark.faults
def test_killed_at_a_random_moment(victim: Any) -> None:
    """One of those of the next tests, which are slow."""
    kill_at_random_moments(victim, 1)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_fifty_random_moments(victim: Any) -> None:
    """Catches what is half done between two file operations, such as a row of metrics.csv."""
    kill_at_random_moments(victim, 50)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_network_killed_at_fifty_random_moments(make_victim: Any, gpt2_config: dict[str, Any]) -> None:
    """A GPT2 with dropout and data workers; catches state that is carried in a process and in no checkpoint."""
    kill_at_random_moments(make_victim(gpt2_with_workers(gpt2_config)), 50)
