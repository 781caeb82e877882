"""``python -m train stats``: what a data set's values are, as a file that ranges take."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hypir_core.image.histogram import Statistics, summarise
from hypir_core.image.ranges import write_statistics

from ..config import load_config
from .checking import check_data
from .degrading import build_mixture
from .opening import open_source
from .statistics import MOST, measure
from .wanted import channels_of, dims_of, scale_of


def main(arguments: list[str]) -> int:
    """Measure the training data of a preset and write the numbers of its high- and low-quality halves."""
    parser = argparse.ArgumentParser(
        prog="python -m train stats",
        description="Measure the values of the training data, band by band, for ranges with fit: file.",
    )
    parser.add_argument("preset")
    parser.add_argument("settings", nargs="*", help="key=value …")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write, .json")
    parser.add_argument(
        "--of", choices=("hr", "lr"), default="hr", help="the targets, or the low-quality halves"
    )
    parser.add_argument(
        "--most", type=int, default=MOST, help=f"pictures or tiles that are read (default {MOST})"
    )
    given = parser.parse_args(arguments)
    config = load_config(given.preset, ["max_steps=1", "output_dir=.", *given.settings])
    check_data(config)
    data, scale = config.data, scale_of(config.generator)
    source = open_source(
        data, scale=scale, channels=channels_of(config.generator), dims=dims_of(config.generator)
    )
    mixture = build_mixture(
        data.degrade,
        scale=scale,
        sharpen_target=data.sharpen_target,
        bounded=data.bounded,
        noise=data.noise,
        physics=data.physics,
    )
    both = measure(config, source, mixture, most=given.most, with_lr=given.of == "lr")
    found = both.hr if given.of == "hr" else both.lr
    write_statistics(given.output, found)
    for line in lines(found):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(
        f"wrote {given.output}; use it with ranges.{given.of}={{kind: …, fit: file, statistics: …}}\n"
    )
    return 0


def lines(statistics: Statistics) -> list[str]:
    """Return one line per band."""
    titles = ("mean", "deviation", "least", "0.1 %", "median", "99.9 %", "greatest")
    head = "band " + " ".join(f"{title:>12}" for title in titles)
    rows = []
    for number, channel in enumerate(statistics.channels):
        found = summarise((channel,), (0.1, 50, 99.9))
        values = (found.mean, found.deviation, found.low, *found.percentiles, found.high)
        rows.append(f"{number:>4} " + " ".join(f"{value:>12.5g}" for value in values))
    return [head, *rows]
