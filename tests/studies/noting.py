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


class Unlucky(torch.optim.SGD):
    """Fails in every run but the first in this folder."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        with (FOLDER / "lives").open("a") as lives:
            lives.write("x")
        if (FOLDER / "lives").stat().st_size > 1:
            raise RuntimeError("no luck today")


class Deadly(torch.optim.SGD):
    def step(self, closure=None):
        note("deadly")
        os.kill(os.getpid(), signal.SIGKILL)
