"""Optimizers of a user, which write down each step beside this file; copied next to a sweep and named in it."""

from __future__ import annotations

import os
import pathlib
import signal
import time

import torch

FOLDER = pathlib.Path(__file__).parent


def note(name):
    with (FOLDER / "steps").open("a") as steps:
        print(name, os.getppid(), os.getpid(), file=steps)


class Slow(torch.optim.SGD):
    def step(self, closure=None):
        note(self.param_groups[0]["lr"])
        if not (FOLDER / "go").exists():
            time.sleep(0.1)
        return super().step(closure)


class Failing(torch.optim.SGD):
    def step(self, closure=None):
        note("failing")
        raise RuntimeError("no step today")


class Deadly(torch.optim.SGD):
    def step(self, closure=None):
        note("deadly")
        os.kill(os.getpid(), signal.SIGKILL)
