"""The Ray cluster that does the runs of a sweep: joining or starting it, and how much room it has."""

from __future__ import annotations

import logging
import os
import signal
import socket
from types import ModuleType

from ...errors import UserError

SECONDS_TO_ANSWER = 10.0

OBJECT_STORE_BYTES = 100 * 2**20
"""Memory of a cluster that is started here, for passing objects; the tasks of a sweep pass a few words."""


class RayCluster:
    """A cluster, joined when it is first needed.

    Args:
        address: of a running one, ``auto`` or ``HOST:PORT``; by default one is started on this machine.

    Attributes:
        ray: the library, which is imported here and nowhere else.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, address: str | None = None) -> None:
        self.ray = _import_ray()
        self._address = address

    def join(self) -> None:
        """Join the cluster, or start it.

        Raises:
            UserError: it does not answer, or does not start.
        """
        if self.ray.is_initialized():
            return
        local = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        where = local if self._address is None else {"address": self._address}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _knock(self._address)
            self.ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises several kinds, a bare Exception among them
            option = "--launcher ray" if self._address is None else f"--address {self._address}"
            raise UserError(f"{option}: {first_line(error)}") from error
        # Ray has set one of its own, which would end the sweep at once.
        if signal.getsignal(signal.SIGTERM) is not handler:
            signal.signal(signal.SIGTERM, handler)

    def leave(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        self.ray.shutdown()

    def has_gpus(self) -> bool:
        """Whether some machine has one."""
        return self.ray.cluster_resources().get("GPU", 0) > 0

    def room(self, cpus: float, gpus: float) -> int:
        """How many tasks its machines could do at a time, each of which takes so many cores and GPUs."""
        wanted = {name: amount for name, amount in {"CPU": cpus, "GPU": gpus}.items() if amount > 0}
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        # Rounded as Ray does, so that 0.1 fits ten times into 1.
        return sum(min(int(round(has.get(name, 0) / need, 4)) for name, need in wanted.items()) for has in machines)


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that Ray adds."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _import_ray() -> ModuleType:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else a cluster started here reports on itself over the network
    try:
        import ray
    except ImportError as error:
        raise UserError('--launcher ray needs Ray: pip install "whyadam[ray]"') from error
    return ray


def _knock(address: str | None) -> None:
    """Ray itself would try for minutes.

    Raises:
        OSError: nothing listens at ``HOST:PORT``.
    """
    host, _, port = (address or "").rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
