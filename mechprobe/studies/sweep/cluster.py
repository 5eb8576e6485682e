"""Workers on a Ray cluster (extra ``cluster``): this machine, or one that is there already."""

from __future__ import annotations

import logging
import os
from types import TracebackType
from typing import Any

from mechprobe.errors import InputError
from mechprobe.studies.sweep.schedule import Reply
from mechprobe.studies.sweep.worker import Desk

LOCAL = "local"


class RayWorkers:
    """Ray actors that do tasks; use ``with``, at the end of which Ray is left.

    The sweep's folder must be on a disk that all machines of the cluster see under the same path,
    and mechprobe installed on them. No dashboard is started and no usage statistics are sent.

    Args:
        count: actors.
        address: of an existing cluster, or "local" to start Ray on this machine.
        gpus: of each actor, which may be a part of one.
        cpus: of each actor.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(
        self, count: int, *, address: str = LOCAL, gpus: float = 0.0, cpus: float = 1.0
    ) -> None:
        self.count = count
        self._ray = _start(address, count, gpus, cpus)
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0}
        self._actor = self._ray.remote(**options)(Desk)
        self._actors: dict[int, Any] = {}
        self._begun: dict[Any, int] = {}

    def give(self, worker: int, order: dict[str, Any]) -> None:
        """Let a worker begin a task; it is started when need be."""
        if worker not in self._actors:
            self._actors[worker] = self._actor.remote()
        self._begun[self._actors[worker].perform.remote(order)] = worker

    def wait(self) -> tuple[int, Reply]:
        """The next worker that ended its task, and what became of it."""
        (done,), _ = self._ray.wait(list(self._begun), num_returns=1)
        worker = self._begun.pop(done)
        try:
            return worker, Reply(self._ray.get(done))
        except self._ray.exceptions.RayActorError as error:
            del self._actors[worker]
            first = str(error).splitlines()[0]
            return worker, Reply(f"worker {worker} died ({first})", died=True)

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._ray.shutdown()


def _start(address: str, count: int, gpus: float, cpus: float) -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "--engine ray needs Ray, which is not installed; pip install 'mechprobe[cluster]', or "
            "leave --engine out"
        ) from None
    own: dict[str, Any] = {"address": address}
    if address == LOCAL:
        own |= {"include_dashboard": False, "num_cpus": max(1, round(count * cpus))}
    variables = {"OMP_NUM_THREADS": str(max(1, int(cpus))), "MECHPROBE_PROGRESS": "0"}
    try:
        ray.init(
            **own, logging_level=logging.ERROR, log_to_driver=False,
            runtime_env={"env_vars": variables},
        )
    except Exception as error:  # Ray raises plain ones, when it does not start in time
        ray.shutdown()
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"no Ray cluster at {address!r} ({first}); give --address of one, or {LOCAL}"
        ) from None
    if gpus > ray.cluster_resources().get("GPU", 0):
        ray.shutdown()
        raise InputError(f"--gpus {gpus:g} for each worker, but the cluster at {address!r} has "
                         "no such GPU; give 0, or the address of another")
    return ray
