"""Which networks of a run lie on the device: all of them, or only those that work.

A stage places its networks before its first tile. With `one_at_a_time`, the others go home first, and what they took is
given back: the peak is that of the largest stage, and not of their sum.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import torch
from torch import nn

from .device import release_cached_memory
from .errors import ConfigError

log = logging.getLogger(__name__)

HOME = torch.device("cpu")
"""Where networks lie that do not work."""


def keep_quiet(_live: tuple[str, ...]) -> None:
    """Tell nobody."""


class Residents:
    """The networks of a run by name, and which of them lie on a device."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        *,
        one_at_a_time: bool = False,
        told: Callable[[tuple[str, ...]], None] = keep_quiet,
    ):
        """Take the networks, wherever they are; nothing moves before a stage asks.

        Args:
            networks: name → network. Networks that work in one stage may be named in one `place`.
            one_at_a_time: send the others home before a stage's networks come.
            told: called with the names of the networks in place, in the order they came, whenever that changes.
        """
        self._networks = dict(networks)
        self._one_at_a_time = one_at_a_time
        self._told = told
        self._live: tuple[str, ...] = ()

    @property
    def live(self) -> tuple[str, ...]:
        """Names of the networks that were placed and not sent home, in the order they came."""
        return self._live

    def weights_bytes(self) -> dict[str, int]:
        """Return name → memory of a network's weights and buffers; what two share counts for the first."""
        seen: set[int] = set()
        found = {}
        for name, net in self._networks.items():
            tensors = {id(t): t for t in (*net.parameters(), *net.buffers())}
            found[name] = sum(t.numel() * t.element_size() for key, t in tensors.items() if key not in seen)
            seen |= set(tensors)
        return found

    def place(self, *names: str) -> Callable[[torch.device], None]:
        """Return what a stage calls to bring these networks, together, to its device: `Stage.place`.

        Raises:
            ConfigError: there is no network of a name.
        """
        if unknown := [name for name in names if name not in self._networks]:
            raise ConfigError(
                f"no network is called {', '.join(unknown)}; known: {', '.join(self._networks)}"
            )

        def bring(device: torch.device) -> None:
            staying = tuple(name for name in self._live if name in names or not self._one_at_a_time)
            self._send_home([name for name in self._live if name not in staying])
            for name in names:
                self._move(name, device)
            self._now((*staying, *(name for name in names if name not in staying)))

        return bring

    def leave(self) -> None:
        """Send every network home, after a run."""
        self._send_home(self._live)
        self._now(())

    def _send_home(self, names: list[str] | tuple[str, ...]) -> None:
        for name in names:
            log.debug("%s → %s", name, HOME)
        send_home(*(self._networks[name] for name in names))

    def _move(self, name: str, device: torch.device) -> None:
        net = self._networks[name]
        if _device_of(net) != device:
            log.debug("%s → %s", name, device)
        nn.Module.to(net, device)  # the override in diffusers warns about some moves

    def _now(self, live: tuple[str, ...]) -> None:
        if live != self._live:
            self._live = live
            self._told(live)


def send_home(*nets: nn.Module) -> None:
    """Bring networks to the CPU, and give what they took back to their device."""
    left = {device for net in nets if (device := _device_of(net)) is not None}
    for net in nets:
        nn.Module.to(net, HOME)  # the override in diffusers warns about some moves
    for device in left - {HOME}:
        release_cached_memory(device)


def _device_of(net: nn.Module) -> torch.device | None:
    """Return where a network's first weight lies; None for one without weights."""
    return next((parameter.device for parameter in net.parameters()), None)
