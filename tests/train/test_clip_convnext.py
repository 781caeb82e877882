"""The CLIP ConvNeXt discriminator on a small random trunk; the published layout on the meta device."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils import spectral_norm as legacy_spectral_norm

from hypir_core.config import build
from hypir_core.errors import (
    ShapeError,
    SpecMismatchError,
    UnknownNameError,
    WeightsError,
    WeightsNotFoundError,
)
from train.config import load_config
from train.discriminators.binomial_blur import BinomialBlur
from train.discriminators.clip_convnext import (
    ClipConvNextDiscriminator,
    ClipConvNextOptions,
    Heads,
)
from train.discriminators.weights_file import file_tensors, read_discriminator
from train.players import trained_state
from train.run import recipe
from train.run.checkpoint import newest_checkpoint

TRUNK = "tiny_convnext_for_tests"
WIDTH = 8


@pytest.fixture(scope="module", autouse=True)
def small_trunk(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make open_clip know a ConvNeXt of 3.4 M weights."""
    path = tmp_path_factory.mktemp("open_clip") / f"{TRUNK}.json"
    vision = {
        "timm_model_name": "convnext_atto", "timm_model_pretrained": False, "timm_pool": "",
        "timm_proj": "linear", "image_size": 64,
    }  # fmt: skip
    text = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(path)


def small(**options) -> ClipConvNextDiscriminator:
    given = {"trunk": TRUNK, "pretrained": None, "trunk_format": "fp32", "width": WIDTH, **options}
    torch.manual_seed(0)
    return ClipConvNextDiscriminator(build(ClipConvNextOptions, given))


def image(*size: int) -> torch.Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("size", [(64, 64), (71, 130)])
def test_shapes_at_odd_sizes(size):
    judgement = small()(image(*size), with_features=True)
    h, w = size
    maps = [tuple(level.shape) for level in judgement.logits]
    assert maps == [(2, 1, h // 16, w // 16), (2, 1, h // 32, w // 32), (2, 1, h // 64, w // 64), (2, 1)]
    assert [f.shape[1] for f in judgement.features] == [WIDTH] * 4


def test_too_small_images_are_refused():
    with pytest.raises(ShapeError, match=r"at least 64 px a side, got \(63, 80\).*data\.crop_px"):
        small()(image(63, 80))


def published_heads() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the published file for convnext_xxlarge."""
    shapes: dict[str, tuple[int, ...]] = {}

    def normed(name: str, *shape: int) -> None:
        rows, columns = shape[0], torch.Size(shape[1:]).numel()
        shapes.update({f"{name}.weight_orig": shape, f"{name}.bias": (rows,)})
        shapes.update({f"{name}.weight_u": (rows,), f"{name}.weight_v": (columns,)})

    for level, channels in enumerate((384, 768, 1536)):
        shapes[f"decoder.{level}.0.filt"] = (channels, 1, 4, 4)
        normed(f"decoder.{level}.1", 512, channels, 3, 3)
        shapes[f"decoder.{level}.3.filt"] = (512, 1, 4, 4)
        normed(f"decoder.{level}.4", 1, 512, 1, 1)
    normed("decoder.3.0", 512, 1024)
    normed("out", 1, 512)
    return shapes


def test_names_and_shapes_are_those_of_the_published_file():
    with torch.device("meta"):
        heads = Heads([384, 768, 1536], embedding=1024, width=512)
        levels = [torch.empty(1, c, s, s) for c, s in ((384, 128), (768, 64), (1536, 32))]
        judgement = heads.eval()(levels, torch.empty(1, 1024), with_features=False)
    ours = {name: tuple(tensor.shape) for name, tensor in file_tensors(heads).items()}
    assert ours == published_heads()
    assert len(ours) == 38
    assert sum(p.numel() for p in heads.parameters()) == 12_914_692
    assert [tuple(level.shape[1:]) for level in judgement.logits] == [
        (1, 32, 32),
        (1, 16, 16),
        (1, 8, 8),
        (1,),
    ]


def test_a_published_head_file_gives_what_its_own_formula_gives(tmp_path):
    """A file made by torch's older spectral norm is read; the first head equals a hand-written one."""
    discriminator = small()
    g = torch.Generator().manual_seed(4)
    file = {name: tensor.clone() for name, tensor in file_tensors(discriminator.heads).items()}
    conv = legacy_spectral_norm(torch.nn.Conv2d(discriminator.channels[0], WIDTH, 3, stride=2))
    for _ in range(3):
        conv(torch.randn(1, discriminator.channels[0], 5, 5, generator=g))
    file |= {f"decoder.0.1.{name}": tensor for name, tensor in conv.state_dict().items()}
    for path in (tmp_path / "heads.safetensors", tmp_path / "heads.pth"):
        save_file(file, path) if path.suffix == ".safetensors" else torch.save(file, path)
        warm = small().eval()
        read_discriminator(warm.in_file, path, key="discriminators.clip.weights")
        assert all(torch.equal(file_tensors(warm.heads)[name], tensor) for name, tensor in file.items())

    x = torch.randn(1, discriminator.channels[0], 12, 12, generator=g)
    kernel = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64

    def blurred(values: torch.Tensor, padding: int) -> torch.Tensor:
        return F.conv2d(
            values, kernel.expand(values.shape[1], 1, 4, 4), padding=padding, groups=values.shape[1]
        )

    last = file["decoder.0.4.weight_orig"].flatten(1)
    sigma = file["decoder.0.4.weight_u"] @ last @ file["decoder.0.4.weight_v"]
    seen = F.leaky_relu(conv.eval()(blurred(x, 2)), 0.2)
    expected = F.conv2d(
        blurred(seen, 1), (last / sigma).view(1, WIDTH, 1, 1), file["decoder.0.4.bias"], stride=2
    )
    torch.testing.assert_close(warm.heads.decoder[0](x), expected, atol=1e-5, rtol=1e-5)


def test_head_files_that_do_not_fit_are_refused(tmp_path):
    heads = small().heads
    file = {name: tensor.clone() for name, tensor in file_tensors(heads).items()}
    path = tmp_path / "heads.safetensors"
    for change, found in (
        (
            lambda f: f.pop("out.bias"),
            r"1 of 38 tensors differ, first out\.bias: file absent, discriminator 1;",
        ),
        (lambda f: f.update(extra=torch.zeros(1)), r"first extra: file 1, discriminator absent"),
        (
            lambda f: f.update({"out.weight_orig": torch.zeros(1, 9)}),
            r"file 1×9, discriminator 1×8; set the options",
        ),
    ):
        wrong = copy.deepcopy(file)
        change(wrong)
        save_file(wrong, path)
        with pytest.raises(SpecMismatchError, match=found):
            read_discriminator(heads, path, key="discriminators.clip.weights")
    save_file(file | {"out.bias": torch.tensor([float("nan")])}, path)
    with pytest.raises(WeightsError, match="NaN"):
        read_discriminator(heads, path, key="discriminators.clip.weights")


def test_the_trunk_is_frozen_always_evaluates_and_is_the_same_in_every_run():
    one, two = small().train(), small(width=4)
    assert one.heads.training
    assert not any(module.training for module in one.trunk.modules())
    assert not any(p.requires_grad for p in one.trunk.parameters())
    assert not any(name.startswith("trunk") for name in trained_state(one))
    assert len(trained_state(one)) == 32  # 38 of the file, less six constant blurs
    other = two.trunk.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.trunk.state_dict().items())


def test_levels_are_found_whether_or_not_timm_returns_the_stem(monkeypatch):
    """Older versions put the stem, with as many channels as the first stage, before the stages."""
    discriminator = small().eval()
    expected = discriminator(image(64, 64)).logits
    real = discriminator.trunk.trunk.forward_intermediates

    def with_stem(x, **options):
        last, stages = real(x, **options)
        return last, [discriminator.trunk.trunk.stem(x), *stages]

    monkeypatch.setattr(discriminator.trunk.trunk, "forward_intermediates", with_stem)
    torch.testing.assert_close(discriminator(image(64, 64)).logits, expected)


def test_the_image_is_normalised_as_clip_wants_it(monkeypatch):
    discriminator = small()
    seen = []
    monkeypatch.setattr(discriminator.trunk.trunk.stem, "forward", lambda x: seen.append(x) or real(x))
    real = type(discriminator.trunk.trunk.stem).forward.__get__(discriminator.trunk.trunk.stem)
    discriminator(torch.stack([torch.full((3, 64, 64), -1.0), torch.ones(3, 64, 64)]))
    black, white = seen[0][:, :, 0, 0]
    ratios = (0.48145466 / 0.26862954, 0.4578275 / 0.26130258, 0.40821073 / 0.27577711)
    torch.testing.assert_close(-black, torch.tensor(ratios))
    torch.testing.assert_close(white - black, 1 / torch.tensor([0.26862954, 0.26130258, 0.27577711]))


def test_bf16_trunk_under_autocast_stays_near_float32_and_checkpointing_changes_nothing():
    def slope(discriminator: ClipConvNextDiscriminator, **autocast) -> tuple[torch.Tensor, torch.Tensor]:
        x = image(64, 64).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, **autocast):
            logits = discriminator.eval()(x).logits
        total = torch.stack([level.float().sum() for level in logits]).sum()
        return total.detach(), torch.autograd.grad(total, x)[0]

    exact = slope(small(), enabled=False)
    for close, other in (
        (1e-6, slope(small(checkpoint_trunk=True), enabled=False)),
        (0.05, slope(small(trunk_format="bf16"))),
    ):
        assert float((other[0] - exact[0]).abs()) < 20 * close
        assert float((other[1] - exact[1]).norm() / exact[1].norm()) < 4 * close


def test_spectral_norm_bounds_every_trained_layer():
    discriminator = small().train()
    with torch.no_grad():
        for _ in range(60):
            discriminator.heads(
                [torch.rand(1, c, 6, 6) for c in discriminator.channels],
                torch.rand(1, 16),
                with_features=False,
            )
    layers = [m for m in discriminator.eval().heads.modules() if parametrize.is_parametrized(m)]
    assert len(layers) == 8
    for layer in layers:
        weight = layer.weight.detach().flatten(1)
        assert float(torch.linalg.matrix_norm(weight, ord=2)) == pytest.approx(1, abs=0.02)


def test_blur_keeps_a_constant_and_spreads_a_point_binomially():
    blur = BinomialBlur(2, padding=2)
    inside = blur(torch.full((1, 2, 9, 9), 0.7))
    assert inside.shape[-2:] == (10, 10)
    torch.testing.assert_close(inside[..., 2:-2, 2:-2], torch.full((1, 2, 6, 6), 0.7))
    point = torch.zeros(1, 2, 8, 8)
    point[0, 1, 4, 4] = 64
    row = torch.tensor([1.0, 3, 3, 1])
    spread = BinomialBlur(2, padding=1)(point)
    assert spread.shape[-2:] == (7, 7)
    torch.testing.assert_close(spread[0, 1, 2:6, 2:6], torch.outer(row, row))
    assert float(spread[0, 0].abs().sum()) == 0


def test_unknown_trunks_and_weights_that_cannot_be_had():
    with pytest.raises(UnknownNameError, match="did you mean 'convnext_base'"):
        small(trunk="convnext_bas")
    with pytest.raises(WeightsNotFoundError, match=r"options\.pretrained: .*set pretrained to its path"):
        small(pretrained="absent.pt")


@pytest.mark.tiny
def test_trains_and_keeps_only_its_heads(photos, tmp_path: Path):
    options = f"{{trunk: {TRUNK}, pretrained: null, trunk_format: fp32, width: {WIDTH}}}"
    config = load_config(
        "tiny_cpu_pixel",
        [
            f"data.root={photos}", f"output_dir={tmp_path}", "max_steps=2", "data.crop_px=64", "data.batch_size=2",
            f"discriminators.clip={{name: clip_convnext, loss: bce, weight: 0.5, options: {options}}}",
        ],
    )  # fmt: skip
    recipe.train(config)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    kept = torch.load(newest / "players.pt", weights_only=True)["clip"]
    assert len(kept["weights"]) == 32
    assert all(name.startswith("heads.") for name in kept["weights"])
    assert sum(tensor.numel() for tensor in kept["weights"].values()) < 50_000
