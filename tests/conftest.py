"""What every test may use: configs of a few seconds' length, and a cache of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A forked child waits for ever for OpenMP's threads, which only its parent has; and several workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tokenizers and token files made by tests never meet the user's; the workers of one run share theirs."""
    root = tmp_path_factory.getbasetemp()
    shared = root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root
    os.environ["WHYADAM_CACHE"] = str(shared / "whyadam-cache")


@pytest.fixture(scope="session", autouse=True)
def _plain_backward_first() -> None:
    """Where the first backward of a process is a compiled one, torch refuses any in forked children, as of faults."""
    import torch

    torch.ones((), requires_grad=True).backward()


@pytest.fixture
def mlp_config() -> dict[str, Any]:
    """A run of seconds: a small network on digits."""
    return {
        "name": "tiny",
        "model": {"name": "mlp", "hidden": [16]},
        "data": {"name": "mnist5k"},
        "task": {"name": "classification"},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "training": {"steps": 6, "batch_size": 16, "eval_every": 3, "eval_examples": 64, "log_every": 2},
    }


@pytest.fixture
def gpt2_config() -> dict[str, Any]:
    """A run of seconds: a two-layer GPT2 on the embedded text, dropout on."""
    return {
        "name": "tiny-gpt2",
        "model": {"name": "gpt2_nano", "n_layer": 2, "n_embd": 32, "n_head": 2, "dropout": 0.1},
        "data": {"name": "kjv", "tokenizer": "char", "block_size": 16},
        "task": {"name": "causal_lm"},
        "optimizer": {"name": "adam", "lr": 1e-3},
        "training": {"steps": 8, "batch_size": 4, "eval_every": 4, "eval_examples": 8, "log_every": 3},
    }


@pytest.fixture
def data_folder() -> Path:
    """The folder of real files that ``WHYADAM_DATA`` names; the test is skipped where there is none."""
    folder = os.environ.get("WHYADAM_DATA")
    if not folder:
        pytest.skip("WHYADAM_DATA is not set")
    return Path(folder)
