"""Generators, discriminators and losses of one's own: by decorator, by installed package, by Python path."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch

from hypir_core.engines.feed_forward.load import built
from hypir_core.errors import ConfigError, SpecMismatchError
from hypir_core.models.architectures import ARCHITECTURES, register_generator
from hypir_core.models.architectures.sizes import Sizes
from hypir_core.weights.spec import GeneratorSpec
from tests.train.loss_terms import compared, pictures, term
from train.config import load_config
from train.discriminators import DISCRIMINATORS, register_discriminator
from train.losses import LOSSES, register_loss
from train.options import check_options
from train.run.recipe import train

CODE = """
from dataclasses import dataclass
from torch import nn
from hypir_core.models.architectures.sizes import Sizes
from train.discriminators import Judgement

@dataclass(frozen=True, kw_only=True)
class Wide(Sizes):
    width: int = 4

class Net(nn.Module):
    Options = Wide
    receptive_radius, maps_per_cell = 1, 64

    def __init__(self, options):
        super().__init__()
        self.shuffle = nn.PixelShuffle(options.scale)
        self.conv = nn.Conv2d(options.in_channels, options.makes * options.scale**2, 3, padding=1)

    def forward(self, x):
        return self.shuffle(self.conv(x))

@dataclass(frozen=True, kw_only=True)
class Looks:
    in_channels: int | None = None

class Judge(nn.Module):
    Options = Looks

    def __init__(self, options):
        super().__init__()
        self.conv = nn.Conv2d(options.in_channels, 1, 3, stride=2)
        self.in_file = self.conv

    def forward(self, image, *, with_features=False):
        return Judgement([self.conv(image)], [])

def offset(image, target, *, by: float = 1.0):
    return ((image - target).mean() * by).abs()
"""


@pytest.fixture
def parts(tmp_path, monkeypatch) -> Iterator[str]:
    """The name of a module with parts, which is also an installed package with entry points."""
    about = tmp_path / "own_parts-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-parts\nVersion: 1.0\n")
    groups = {"generators": "Net", "discriminators": "Judge", "losses": "offset"}
    (about / "entry_points.txt").write_text(
        "".join(
            f"[onestep_restore.{group}]\nmy_{group} = own_parts:{name}\n" for group, name in groups.items()
        )
    )
    (tmp_path / "own_parts.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    for registry, group in zip((ARCHITECTURES, DISCRIMINATORS, LOSSES), groups, strict=True):
        monkeypatch.setattr(registry, "_group", f"onestep_restore.{group}")
        for table in ("_entries", "_names"):
            monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    yield "own_parts"
    sys.modules.pop("own_parts", None)


@pytest.mark.parametrize("way", ["path", "package"])
def test_a_run_with_parts_of_ones_own(parts, photos, tmp_path, way):
    names = {"path": [f"{parts}:{each}" for each in ("Net", "Judge", "offset")]}.get(
        way, ["my_generators", "my_discriminators", "my_losses"]
    )
    config = load_config(
        "tiny_cpu_pixel",
        [
            f"data.root={photos}",
            f"output_dir={tmp_path / way}",
            "max_steps=2",
            "losses={}",
            "validation=null",
            "tracking.tensorboard=false",
            f"generator.name='{names[0]}'",
            "generator.options={}",
            "generator.options={scale: 2, width: 3}",
            "data.batch_size=2",
            "data.pool={}",
            "data.workers=0",
            "discriminators={}",
            f"discriminators.d={{name: '{names[1]}', optimiser: {{lr: 1.0e-4}}}}",
            f"losses.own={{kind: '{names[2]}', options: {{by: 2}}}}",
        ],
    )
    folder = train(config)
    from hypir_core.weights.spec import spec_from_metadata
    from hypir_core.weights.tensors import read_tensors

    file = read_tensors(folder / "generator.safetensors")
    spec = spec_from_metadata(file.metadata, folder)
    assert isinstance(spec, GeneratorSpec)
    assert spec.architecture == names[0]
    assert spec.options == {"width": 3}
    built(spec, folder).load_state_dict(file.tensors)
    for table in (ARCHITECTURES._entries, ARCHITECTURES._names):
        table.pop(names[0])  # as another process would find it
    if way == "path":
        with pytest.raises(SpecMismatchError, match="code is run only if you ask for it"):
            built(spec, folder)


def test_decorators_make_names_known_and_bad_paths_are_sentences(parts, photos, tmp_path):
    @register_generator("my_net", summary="mine")
    class Net(torch.nn.Module):
        Options = Sizes

    assert ARCHITECTURES.get("my_net") is Net
    assert register_discriminator("my_judge")(Net) is DISCRIMINATORS.get("my_judge")
    assert register_loss("my_loss")(torch.dist) is LOSSES.get("my_loss")
    with pytest.raises(ConfigError, match="registered twice"):
        register_generator("my_net")(Net)
    config = load_config(
        "tiny_cpu_pixel",
        [
            f"data.root={photos}",
            f"output_dir={tmp_path / 'run'}",
            "max_steps=1",
            "validation=null",
            "generator.name='no_such_package:Net'",
        ],
    )
    with pytest.raises(ConfigError, match=r"generator\.name: no_such_package cannot be imported"):
        check_options(config)


def test_a_loss_of_ones_own_is_registered_and_used_by_name(monkeypatch):
    for part in ("_entries", "_names"):
        monkeypatch.setattr(LOSSES, part, dict(getattr(LOSSES, part)))

    @register_loss("largest", summary="the largest error")
    def largest(image: torch.Tensor, target: torch.Tensor, *, times: float = 1.0) -> torch.Tensor:
        return times * (image - target).abs().max()

    image, target = pictures(1, 3, 4, 4)
    got = term("largest", options={"times": 3}).of(compared(image, target))
    torch.testing.assert_close(got, 6 * (image - target).abs().max())
    with pytest.raises(ConfigError, match="registered twice"):
        register_loss("l1")(largest)
