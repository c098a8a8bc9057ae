"""What a Ray task does with a shared folder; Ray itself is not needed for that."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from whyadam.configs.load import parse_experiment
from whyadam.studies.sweeps import ray_workers
from whyadam.studies.sweeps.ray_workers import RayTask, do_task
from whyadam.training.run_folder import RunFolder


@pytest.mark.parametrize("is_retry", [True, False])
def test_only_a_retry_waits_for_a_run_folder_that_is_still_locked(
    is_retry: bool, mlp_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost machine's lock, which its file server keeps for a while, would end the run as busy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    folder = RunFolder.of(parse_experiment(mlp_config, "test"), tmp_path)
    locked = threading.Event()

    def hold() -> None:
        with folder.lock():
            locked.set()
            time.sleep(1.0)

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait()
    report = do_task(RayTask(mlp_config, tmp_path, tmp_path, threads, has_gpu=False, is_retry=is_retry))
    holder.join()
    assert (report.failure is None) == is_retry, report.failure
    assert report.state == ("done" if is_retry else None)


def test_a_run_is_over_when_this_machine_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared folder that shows things late, a finished run would count as interrupted."""
    folder = RunFolder(tmp_path)
    later = threading.Timer(0.5, lambda: folder.write_status(state="done"))
    later.start()
    assert ray_workers.wait_to_see(folder, "done") is None
    later.join()
    monkeypatch.setattr(ray_workers, "SECONDS_TO_BE_SEEN", 0.3)
    assert "--out must be a folder that all machines share" in str(ray_workers.wait_to_see(folder, "diverged"))
