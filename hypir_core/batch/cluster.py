"""A Ray cluster: joined or started, and how many workers it takes."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ConfigError, MissingDependencyError

ANSWER_S = 5.0
"""So long the head of a cluster is waited for."""


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Give the module `ray`, joined to a cluster until the block ends; a cluster that was joined before stays so.

    Args:
        address: ``auto`` is the cluster that runs on this machine, or one that is started here; else ``HOST:PORT``.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigError: no head answers.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.exceptions  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as err:
        raise MissingDependencyError("ray", "ray", "--ray") from err
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address != "auto":
        _knock(address)
    try:
        try:
            ray.init(address=address, **quiet)
        except ConnectionError:
            if address != "auto":
                raise
            ray.init(include_dashboard=False, **quiet)
    except Exception as err:  # Ray raises many kinds
        said = " ".join(str(err).split())[:300]
        raise ConfigError(
            f"--ray {address}: expected a Ray cluster that answers, got {type(err).__name__}: {said}; a busy machine "
            "may need RAY_raylet_start_wait_time_s=120"
        ) from err
    try:
        yield ray
    finally:
        ray.shutdown()


def workers_of(ray: Any, cpus: int) -> tuple[int, dict[str, Any]]:
    """Return how many workers a cluster takes, and what each asks for: a GPU, or so many CPUs; one CPU stays free."""
    has = ray.cluster_resources()
    gpus, all_cpus = int(has.get("GPU", 0)), int(has.get("CPU", 1))
    if gpus:
        return gpus, {"num_gpus": 1, "num_cpus": 1}
    each = max(1, min(cpus, all_cpus - 1))
    return max(1, (all_cpus - 1) // each), {"num_cpus": each}


def _knock(address: str) -> None:
    """Ask whether anybody listens: Ray itself would try for minutes.

    Raises:
        ConfigError: the address is none, or nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--ray must be auto or HOST:PORT, got {address!r}; `ray start --head` says which")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as err:
        raise ConfigError(
            f"--ray {address}: expected the head of a Ray cluster, got no answer ({err}); start it with "
            "`ray start --head`, or use --ray auto"
        ) from err
