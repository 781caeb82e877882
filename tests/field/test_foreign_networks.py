"""Networks of other programs, one small one of every architecture that spandrel can build small.

Each is made with random numbers, saved as people save it, loaded as an upscaler, and run on a picture with odd sides.
Right is what spandrel's own descriptor makes of that picture.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hypir_core import Request, Runtime, load_engine, restore
from hypir_core.engines.feed_forward.load import upscaler_of
from hypir_core.engines.feed_forward.spandrel_net import NOISE_SEED, tried
from hypir_core.errors import ConfigError, ShapeError, WeightsError
from hypir_core.tiling.plan import TileWish
from hypir_core.weights.tensors import write_tensors
from tests.field.small_networks import HOMES, NETWORKS, NOT_SMALL, made

spandrel = pytest.importorskip("spandrel")

CPU = torch.device("cpu")

ATOL = {"RestoreFormer": 2e-3}
"""It looks its features up in a code book, so the last bit of a sum may choose another entry."""


def saved(name: str, folder: Path) -> Path:
    path = folder / "network.safetensors"
    write_tensors(path, {key: t.clone().contiguous() for key, t in made(name).state_dict().items()}, {})
    return path


def described(name: str) -> Any:
    tensors = {key: t.clone() for key, t in made(name).state_dict().items()}
    return spandrel.ModelLoader(device="cpu").load_from_state_dict(tensors).eval()


def picture(channels: int, height: int = 37, width: int = 29) -> Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(1))


def called(model: Any, image_01: Tensor) -> Tensor:
    """Return what a descriptor makes of one picture; AuraSR draws noise, RCAN changes what it is given."""
    torch.manual_seed(NOISE_SEED)
    return model(image_01.clone()).clone()


def load(path: Path, dtype: str = "float32") -> Any:
    return load_engine("upscaler", options={"weights": str(path)}, device=CPU, dtype=dtype)


@pytest.mark.filterwarnings("ignore")  # of other people's modules
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_runs_as_its_descriptor_says(name, tmp_path):
    model, engine = described(name), load(saved(name, tmp_path))
    assert (engine.spec.in_channels, engine.spec.out_channels) == (
        model.input_channels,
        model.output_channels,
    )
    assert engine.scale == (model.scale,) * 2
    image_01 = picture(model.input_channels)
    two = torch.cat([image_01, image_01.flip(2)])
    right = torch.cat([called(model, one) for one in two.split(1)])
    assert right.std() > 1e-3  # a network that does nothing proves nothing
    for given, expected in ((image_01, right[:1]), (two, right)):
        done = restore(engine, given, Request(), Runtime())
        torch.testing.assert_close(done.image_01, expected, atol=ATOL.get(name, 1e-4), rtol=0)
    torch.testing.assert_close(image_01, picture(model.input_channels), atol=0, rtol=0)


def test_every_architecture_of_spandrel_is_here():
    there = {arch.architecture.id for arch in spandrel.MAIN_REGISTRY.architectures()}
    tested = {HOMES.get(name, name.split(maxsplit=1)[0]) for name in NETWORKS}
    assert there - tested == NOT_SMALL | {"LaMa"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["FBCNN", "DRUNet", "MixDehazeNet", "SCUNet", "RealCUGAN ×4", "IPT"])
def test_in_the_node_as_from_a_file(name):
    model = described(name)
    engine, image_01 = upscaler_of(model, label="mine"), picture(3)
    done = restore(engine, image_01, Request(), Runtime())
    torch.testing.assert_close(done.image_01, called(model, image_01), atol=2e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ESRGAN folded", "SCUNet", "Uformer", "DRUNet"])
def test_tiles_of_any_size_are_padded(name, tmp_path):
    """Tiles that no network could take as they are give a picture of the right size, and near the untiled one."""
    engine = load(saved(name, tmp_path))
    image_01 = picture(3, 100, 90)
    scale = engine.scale[0]
    wish = TileWish(tile_px=67 * scale, overlap_px=22 * scale)
    done = restore(engine, image_01, Request(tile=wish), Runtime())
    assert done.report.stages[0].redundancy > 1
    assert done.image_01.shape[-2:] == (100 * scale, 90 * scale)
    assert bool(done.image_01.isfinite().all())


class Picky(nn.Module):
    """A network that runs in float32 only, as those do that keep a mask in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(x * self.scale, torch.eye(x.shape[-1]))


def descriptor_of(module: nn.Module, **changes: Any) -> Any:
    facts = {
        "purpose": "Restoration",
        "tags": [],
        "supports_half": True,
        "supports_bfloat16": True,
        "scale": 1,
        "input_channels": 3,
        "output_channels": 3,
    }
    architecture = next(iter(spandrel.MAIN_REGISTRY.architectures())).architecture
    return spandrel.ImageModelDescriptor(
        module, module.state_dict(), architecture=architecture, **(facts | changes)
    )


def test_a_format_that_does_not_run_is_not_chosen():
    found = tried(descriptor_of(Picky()), torch.bfloat16, device=CPU, asked=False, where="x")
    assert found.net.dtype == torch.float32
    assert found.dtypes == ("float32", "float16")
    assert len(found.notes) == 1
    assert found.notes[0].startswith("the network does not run in bfloat16 (")
    assert float(found.net.net.state_dict()["scale"]) == 0.5
    assert tried(descriptor_of(Picky()), torch.float32, device=CPU, asked=False, where="x").notes == ()
    with pytest.raises(ConfigError, match=r"x: does not run in bfloat16 \(.*\); choose float32"):
        tried(descriptor_of(Picky()), torch.bfloat16, device=CPU, asked=True, where="x")


def test_a_format_that_overflows_is_not_chosen():
    class Large(Picky):
        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale * 1e5 * 1e-5 if x.dtype != torch.float16 else x * 1e5 * 1e5

    found = tried(descriptor_of(Large()), torch.float16, device=CPU, asked=False, where="x")
    assert found.net.dtype == torch.float32
    assert "NaN or infinity" in found.notes[0]


@pytest.mark.filterwarnings("ignore")
def test_auto_says_what_it_gave_up(tmp_path, monkeypatch):
    """SwinIR in bfloat16: the mask of any size but the trained one is float32."""
    monkeypatch.setattr("hypir_core.device._fast_dtypes", lambda _device: ("bfloat16",))
    path = saved("SwinIR", tmp_path)
    engine = load(path, dtype="auto")
    image_01 = picture(3)
    done = restore(engine, image_01, Request(), Runtime())
    right = described("SwinIR")(image_01)
    if engine.spec.dtype == "float32":
        assert any("does not run in bfloat16" in note for note in done.report.notes)
        assert "bfloat16" not in engine.spec.dtypes
        torch.testing.assert_close(done.image_01, right, atol=2e-5, rtol=0)
    else:
        torch.testing.assert_close(done.image_01, right, atol=0.05, rtol=0)
    assert load(saved("Compact", tmp_path), dtype="auto").spec.dtype == "bfloat16"


def test_other_channels_or_sizes_than_promised_are_refused_with_both_numbers():
    with pytest.raises(
        WeightsError, match=r"x: .* should make 1 channels of 3, it made 3; it cannot be used"
    ):
        tried(descriptor_of(Picky(), output_channels=1), torch.float32, device=CPU, asked=False, where="x")
    wrong = descriptor_of(Picky(), purpose="SR", scale=2, call_fn=lambda net, x: net(x)[..., 1:])
    with pytest.raises(WeightsError, match="should make 80×48 px of 40×24, it made 39×24; it cannot be used"):
        tried(wrong, torch.float32, device=CPU, asked=False, where="x")
    faulty = descriptor_of(Picky(), call_fn=lambda net, x: (net(x), x))
    with pytest.raises(WeightsError, match=r"x: .* does not run \("):
        tried(faulty, torch.float32, device=CPU, asked=False, where="x")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "takes", "given"), [("DnCNN", 1, 3), ("ESRGAN of 4 bands", 4, 3)])
def test_pictures_of_other_bands_get_a_sentence(name, takes, given, tmp_path):
    with pytest.raises(ShapeError, match=f"takes {takes} channels?, the picture has {given}"):
        restore(load(saved(name, tmp_path)), picture(given), Request(), Runtime())


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_picture_to_picture_network_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a.weight": torch.zeros(2, 2)}, {})
    with pytest.raises(WeightsError, match=r"unknown layout of 1 tensors \(a\.weight, …\)"):
        load(path)
    tensors = {key: t.clone() for key, t in made("DRCT").state_dict().items()}
    del tensors["conv_after_body.bias"]
    write_tensors(path, tensors, {})
    with pytest.raises(WeightsError, match="tensors that do not fit together") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    home = importlib.import_module("spandrel.architectures.LaMa")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lama = home.LaMa(in_nc=4, out_nc=3)
    write_tensors(path, {key: t.clone() for key, t in lama.state_dict().items()}, {})
    with pytest.raises(WeightsError, match="got LaMa, which fills holes and wants a mask as well"):
        load(path)
