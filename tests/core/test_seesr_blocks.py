"""SeeSR's image blocks in a diffusers network, and how many steps its engine takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.errors import HypirError, SpecMismatchError, WeightsError
from hypir_core.models.sd.backbone import empty_unet, load_base
from hypir_core.models.sd.controlnet import empty_controlnet
from hypir_core.models.sd.image_blocks import (
    MARK,
    add_empty_image_blocks_,
    add_fresh_image_blocks_,
    add_image_blocks_,
    published_names,
)
from hypir_core.models.sd.sd21 import SD21_UNET
from hypir_core.weights.search.locate import locate_base
from hypir_core.weights.tensors import read_tensors, write_tensors

GOLDEN = Path(__file__).parents[1] / "golden" / "seesr"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def blocks() -> dict[str, Tensor]:
    return dict(read_tensors(GOLDEN / "seesr/unet" / WEIGHTS).tensors)


def plain_unet() -> torch.nn.Module:
    return load_base(locate_base(GOLDEN / "sd-turbo")).unet


def seen(unet, text: Tensor, tokens: Tensor | str | None) -> Tensor:
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    given = text if tokens == "none" else (text, tokens)
    return unet(x, 500, given, return_dict=False)[0]


@pytest.fixture
def text_and_tokens() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(1, 5, 32, generator=rng), torch.randn(1, 7, 512, generator=rng)


def test_gradients_reach_every_image_block_and_the_tokens(blocks, text_and_tokens):
    text, tokens = text_and_tokens
    unet = plain_unet()
    add_image_blocks_(unet, blocks, where="unet")
    mine = {name: p for name, p in unet.named_parameters() if ".image." in name}
    for weight in mine.values():
        weight.requires_grad_(True)
    tokens.requires_grad_(True)
    seen(unet, text, tokens).square().mean().backward()
    assert len(mine) == sum(MARK in name for name in blocks)
    without = [name for name, weight in mine.items() if weight.grad is None or not weight.grad.any()]
    assert without == []
    assert tokens.grad is not None
    assert tokens.grad.abs().sum() > 0


def test_attention_to_tokens_runs_in_torchs_own_kernel(blocks, text_and_tokens, monkeypatch):
    """Each image block adds two calls of it: to itself and to the tokens, whose width only the second has."""
    text, tokens = text_and_tokens
    unet = plain_unet()
    add_image_blocks_(unet, blocks, where="unet")
    kernel, keys = torch.nn.functional.scaled_dot_product_attention, []

    def counted(query, key, value, **given):
        keys.append(key.shape[-2])
        return kernel(query, key, value, **given)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    counts = []
    for given in (None, tokens):
        keys.clear()
        with torch.no_grad():
            seen(unet, text, given)
        counts.append((len(keys), keys.count(tokens.shape[1])))
    places = sum(name.endswith("image_attentions.0.norm.weight") for name in blocks) + sum(
        name.endswith("image_attentions.1.norm.weight") for name in blocks
    )
    assert places > 2
    assert counts[0][1] == 0
    assert (counts[1][0] - counts[0][0], counts[1][1]) == (2 * places, places)


def test_a_block_that_ends_in_zeros_or_is_skipped_leaves_the_plain_network(blocks, text_and_tokens):
    text, tokens = text_and_tokens
    with torch.no_grad():
        plainly = seen(plain_unet(), text, "none")
        zeros = {
            name: torch.zeros_like(tensor) if MARK in name and ".proj_out." in name else tensor
            for name, tensor in blocks.items()
        }
        quiet, loud = plain_unet(), plain_unet()
        add_image_blocks_(quiet, zeros, where="unet")
        add_image_blocks_(loud, blocks, where="unet")
        assert torch.equal(seen(quiet, text, tokens), plainly)
        assert torch.equal(seen(loud, text, None), plainly)
        assert (seen(loud, text, tokens) - plainly).abs().max() > 1e-3


def test_a_place_without_a_block_and_a_block_without_a_place_are_named(blocks):
    place = "down_blocks.1.image_attentions.0."
    less = {name: tensor for name, tensor in blocks.items() if not name.startswith(place)}
    with pytest.raises(SpecMismatchError, match=r"without one: .*down_blocks\.1\.attentions\.0"):
        add_image_blocks_(plain_unet(), less, where="unet")
    more = {**blocks, "down_blocks.9.image_attentions.0.norm.weight": torch.ones(1)}
    with pytest.raises(SpecMismatchError, match=r"without a place: .*down_blocks\.9\.attentions\.0"):
        add_image_blocks_(plain_unet(), more, where="unet")
    with pytest.raises(WeightsError, match="holds no tensor with"):
        add_image_blocks_(plain_unet(), {n: t for n, t in blocks.items() if MARK not in n}, where="unet")


def test_in_full_size_a_file_gives_416_tensors_to_the_unet_and_182_to_the_controlnet():
    """On the meta device, which has shapes and takes no memory."""
    for empty, own, merged, numbers in (
        (empty_unet, 686, 416, 260_849_600),
        (empty_controlnet, 340, 182, 124_803_200),
    ):
        model = empty(SD21_UNET)
        add_empty_image_blocks_(model, width=512)
        file = published_names(model.state_dict())
        net = empty(SD21_UNET)
        report = add_image_blocks_(net, file, where="file")
        assert (report.merged, report.unused) == (merged, own)
        assert {name: t.shape for name, t in published_names(net.state_dict()).items()} == {
            name: t.shape for name, t in file.items()
        }
        assert sum(t.numel() for name, t in file.items() if MARK in name) == numbers


def test_fresh_blocks_are_copies_that_end_in_zeros(text_and_tokens):
    text, tokens = text_and_tokens
    unet = plain_unet()
    with torch.no_grad():
        plainly = seen(unet, text, "none")
        add_fresh_image_blocks_(unet, width=512)
        assert torch.equal(seen(unet, text, tokens), plainly)
    pair = unet.mid_block.attentions[0]
    assert torch.equal(pair.image.proj_in.weight, pair.text.proj_in.weight)
    assert pair.image.transformer_blocks[0].attn2.to_k.weight.shape[1] == 512
    assert pair.image.transformer_blocks[0].attn2.to_k.weight.std() > 0.01


def test_written_names_are_the_published_ones(blocks):
    unet = plain_unet()
    add_image_blocks_(unet, blocks, where="unet")
    assert published_names(unet.state_dict()).keys() == blocks.keys()


@pytest.mark.parametrize("steps", range(1, 9))
def test_up_to_eight_steps_run(steps):
    """As many as asked, each at an earlier timestep."""
    options = {"base_model": str(GOLDEN / "sd-turbo"), "seesr": str(GOLDEN / "seesr"), "tagger": "off"}
    engine = load_engine(
        "seesr", {**options, "steps": steps, "process_px": 64}, device=torch.device("cpu"), dtype="float32"
    )
    times = [step.t for step in engine.steps]
    assert len(times) == steps
    assert times == sorted(times, reverse=True)
    assert times[0] == 999
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    done = restore(engine, picture, Request(target=TargetSize(scale=2)), Runtime())
    assert done.image_01.isfinite().all()
    assert sum(stage.name.startswith("step") for stage in done.report.stages) == steps


def test_a_plain_controlnet_is_not_taken_for_seesrs(tmp_path):
    for part in ("unet", "controlnet"):
        shutil.copytree(GOLDEN / "seesr" / part, tmp_path / part)
    file = tmp_path / "controlnet" / WEIGHTS
    plain = {name: tensor.clone() for name, tensor in read_tensors(file).tensors.items() if MARK not in name}
    file.unlink()
    write_tensors(file, plain, {})
    options = {"base_model": str(GOLDEN / "sd-turbo"), "seesr": tmp_path, "tagger": "off"}
    with pytest.raises(HypirError, match="image_attentions"):
        load_engine("seesr", options, device=torch.device("cpu"), dtype="float32")
