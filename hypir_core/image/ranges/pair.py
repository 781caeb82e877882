"""The two ranges of a network: of what it takes and of what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from ... import config as configs
from ..histogram import Statistics
from .config import FitOn, RangeConfig
from .custom import allow_custom
from .fitting import settle
from .names import RangeSetting


@dataclass(frozen=True, kw_only=True)
class RangesConfig:
    """Ranges of the low- and the high-quality pictures, as settings state them."""

    __pydantic_config__ = configs.strict

    lr: RangeSetting = field(default_factory=RangeConfig)
    """Of what the network takes: a name (normalise_10k, zscore …) or a whole `RangeConfig`."""
    hr: RangeSetting | None = None
    """Of what it gives; None: as `lr`, with its numbers."""

    @property
    def needs_dataset(self) -> bool:
        """Whether the data set must be read once before training."""
        both = (self.lr, self.hr or self.lr)
        return any(each.fit is FitOn.dataset and each.saved is None for each in both)

    def allow_custom(self) -> None:
        """Import the Python paths that the user wrote.

        Raises:
            ConfigError: a path leads nowhere, or a custom range has no way back.
            UnknownNameError: a custom range that is not registered.
        """
        for key, each in (("ranges.lr", self.lr), ("ranges.hr", self.hr)):
            if each is not None and each.custom is not None:
                allow_custom(each.custom, key=f"{key}.custom")
                _ = each.fixed

    def settled(self, lr: Statistics | None = None, hr: Statistics | None = None) -> RangesConfig:
        """Return the pair with the numbers of data sets and files found; see `settle`.

        Raises:
            ConfigError: a file of statistics cannot be read, or lacks what the kind needs.
        """
        return RangesConfig(lr=settle(self.lr, lr), hr=None if self.hr is None else settle(self.hr, hr))
