"""What happens in a process that does runs of a sweep."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ...configs.load import parse_experiment
from ...errors import UserError
from ...memory import keep_freed_memory
from ...training.run_folder import RunFolder

LOG = "output.log"
"""File in a run folder: what the run printed, progress and traceback included."""


def serve(connection: Connection) -> None:
    """Do one run after another until the other end is closed.

    Args:
        connection: in come the values of an experiment with the folder for run folders; out go None, or the line that
            says why the run failed.
    """
    # Only a run in training answers a signal; the parent repeats its own until that has happened.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    prepare(threads=1)
    with suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(attempt(*connection.recv()))


def prepare(threads: int) -> None:
    """Make this process ready for runs: so many threads, memory, and nothing that stays behind if it is killed."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    keep_freed_memory()

    import torch
    from tqdm import tqdm

    torch.set_num_threads(threads)
    tqdm.set_lock(threading.RLock())  # its own is shared between processes, and stays behind if this one is killed


def attempt(values: dict[str, Any], out: Path) -> str | None:
    """Do one run, or go on with it; what it prints goes to ``output.log`` in its folder.

    Args:
        values: of the experiment.
        out: folder for run folders.

    Returns:
        The line that says why it failed, if it did.
    """
    from ...training.run import run_experiment

    try:
        experiment = parse_experiment(values, source="sweep")
        _print_to(RunFolder.of(experiment, out).path / LOG)
        run_experiment(experiment, out)
    except UserError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return " ".join(f"{type(error).__name__}: {error}".split())
    finally:
        sys.stdout.flush()
    return None


def _print_to(path: Path) -> None:
    """From here on, whatever this process prints goes to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _stop_with_parent() -> None:
    """Once the parent is gone, ask the run at work for a last checkpoint; the process ends after it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
