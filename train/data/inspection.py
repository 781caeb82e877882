"""``python -m train inspect-data``: see what a training run would be fed, without training."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from hypir_core.errors import ConfigError, ImageFileError

from ..config import DataConfig, RootShare, TrainConfig, load_config
from .checking import check_data
from .contact_sheet import LabelledPair, contact_sheet
from .degrading import build_mixture
from .endings import printable
from .opening import open_source
from .pairs import PairSequence
from .source import Source
from .usable import SHOWN
from .viewing import for_screen
from .wanted import channels_of, dims_of, scale_of

SHEET = "data_pairs.png"
LOOKED_AT = 100
"""Pictures that are decoded for the summary unless all are asked for."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What was found in the pictures that were decoded."""

    tried: int
    """How many were decoded, well or badly."""
    sizes: tuple[tuple[int, int], ...]
    """(width, height), sorted by area."""
    prompts: tuple[str, ...]
    bad: tuple[str, ...]


def main(arguments: list[str]) -> int:
    """Read the command line, write the contact sheet and print the summary; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train inspect-data",
        description="Show what training would be fed: a contact sheet of pairs, sizes, bad files.",
    )
    parser.add_argument("preset", help="a preset, as for training")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="as for training")
    parser.add_argument("--pairs", type=int, default=24, help="pairs on the sheet (default 24)")
    parser.add_argument(
        "--decode-all", action="store_true", help="decode every picture, to find every bad one"
    )
    given = parser.parse_intermixed_args(arguments)
    if given.pairs < 1:
        raise ConfigError(f"--pairs must be 1 or more, got {given.pairs}")
    config = load_config(given.preset, ["max_steps=1", *given.settings])
    for line in inspect_data(config, pairs=given.pairs, decode_all=given.decode_all):
        sys.stdout.write(f"{line}\n")
    return 0


def inspect_data(config: TrainConfig, *, pairs: int, decode_all: bool) -> list[str]:
    """Write ``data_pairs.png`` into output_dir and return the lines of the summary.

    Raises:
        ConfigError: the pictures cannot be used, or output_dir cannot be written.
    """
    check_data(config)
    data, scale = config.data, scale_of(config.generator)
    dims = dims_of(config.generator)
    source = open_source(data, scale=scale, channels=channels_of(config.generator), dims=dims)
    decoded = _decode(source, len(source) if decode_all else LOOKED_AT)
    mixture = build_mixture(
        data.degrade,
        scale=scale,
        sharpen_target=data.sharpen_target,
        bounded=data.bounded,
        noise=data.noise,
        physics=data.physics,
    )
    sequence = PairSequence(source, data, mixture, seed=config.seed)
    sheet = _write_sheet(config.output_dir, [_labelled(sequence, index) for index in range(pairs)])
    return [*_summary(data, source, decoded), f"pairs       {pairs} in {sheet}: low quality, target"]


def _decode(source: Source, most: int) -> Decoded:
    """Decode up to `most` pictures, evenly spread."""
    count = min(most, len(source))
    sizes, prompts, bad = [], [], []
    for place in range(count):
        try:
            item = source.item(place * len(source) // count)
        except ImageFileError as err:
            bad.append(str(err))
            continue
        sizes.append((item.hq.shape[-1], item.hq.shape[-2]))
        prompts.append(item.prompt)
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    return Decoded(tried=count, sizes=tuple(by_area), prompts=tuple(prompts), bad=tuple(bad))


def _labelled(sequence: PairSequence, index: int) -> LabelledPair:
    number, _ = sequence.picture(index)
    item, label = sequence.pair(index)
    if item.lq is None:
        raise AssertionError("a pair has both halves")
    hq_size, lq_size = ("×".join(map(str, image.shape[:0:-1])) for image in (item.hq, item.lq))
    hq, lq = item.hq, item.lq
    if not sequence.config.bounded or hq.ndim > 3:
        lq, hq = for_screen((lq, hq), bands=None, bounded=sequence.config.bounded)
    lines = (f"{index}  {sequence.source.name(number)}  {lq_size} → {hq_size}", label)
    return LabelledPair(hq, lq, (*lines, f"“{item.prompt}”") if item.prompt else lines)


def _write_sheet(folder: Path, pairs: list[LabelledPair]) -> Path:
    path = folder / SHEET
    try:
        folder.mkdir(parents=True, exist_ok=True)
        contact_sheet(pairs).save(path)
    except OSError as err:
        raise ConfigError(f"output_dir: {path} cannot be written ({err.strerror or err})") from err
    return path


def _summary(data: DataConfig, source: Source, decoded: Decoded) -> list[str]:
    bad = [*source.skipped, *decoded.bad]
    more = [f"            … and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    usable = len(source) - len(decoded.bad)
    all_tried = decoded.tried == len(source)
    prompts = [prompt for prompt in decoded.prompts if prompt]
    longest = max((len(prompt.split()) for prompt in prompts), default=0)
    return [
        *(_place(key, share) for key, share in data.places.items()),
        f"pictures    {usable} to train on, {usable / data.batch_size:.1f} batches of {data.batch_size}",
        f"left out    {source.left_out + len(decoded.bad)}" + ("" if all_tried else _looked_at(decoded)),
        *(f"            {line}" for line in bad[:SHOWN]),
        *more,
        f"sizes       {_sizes(decoded)} px",
        f"prompts     {len(prompts)} of {len(decoded.prompts)} decoded pictures, the longest of {longest} words",
        f"hash        {source.hash}",
    ]


def _place(key: str, share: RootShare) -> str:
    kind = share.source.kind_of(share.root).value
    pairs = ", given pairs" if share.source.paired else ""
    weight = f", weight {share.weight:g}" if key != "data.root" else ""
    return f"{key:<11} {printable(str(share.root))} ({kind}{pairs}{weight})"


def _looked_at(decoded: Decoded) -> str:
    return f" so far ({decoded.tried} pictures decoded; --decode-all tries every one)"


def _sizes(decoded: Decoded) -> str:
    if not decoded.sizes:
        return "unknown"
    places = {"smallest": 0, "middle": len(decoded.sizes) // 2, "largest": -1}
    return ", ".join(
        f"{name} {decoded.sizes[place][0]}×{decoded.sizes[place][1]}" for name, place in places.items()
    )
