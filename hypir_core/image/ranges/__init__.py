"""Ranges: what a file calls black and white, and what a network does.

Fixed ones are known before a picture is; fitted ones (`RangeKind.fitted`) are measured on the whole input before it is
cut into tiles, or on a data set, and then saved with the weights. `register_ranges` adds one's own.
"""

from .config import FitOn, RangeConfig
from .curve import Curve
from .custom import CUSTOM_RANGES, Custom, CustomConfig, allow_custom, register_ranges
from .fitting import fit, notes_on, settle
from .kinds import AnyRange, RangeKind
from .line import LEAST_WIDTH, PM1, UNIT, Range
from .names import ALIASES, NAMED, RangeSetting, named_range
from .pair import RangesConfig
from .statistics_file import read_statistics, write_statistics

__all__ = [
    "ALIASES",
    "CUSTOM_RANGES",
    "LEAST_WIDTH",
    "NAMED",
    "PM1",
    "UNIT",
    "AnyRange",
    "Curve",
    "Custom",
    "CustomConfig",
    "FitOn",
    "Range",
    "RangeConfig",
    "RangeKind",
    "RangeSetting",
    "RangesConfig",
    "allow_custom",
    "fit",
    "named_range",
    "notes_on",
    "read_statistics",
    "register_ranges",
    "settle",
    "write_statistics",
]
