"""The engine of SeeSR in its default mode, on the tiny model of the golden set."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.color.mode import ColorFix
from hypir_core.engines.diffusion.engine import Diffusion
from hypir_core.engines.diffusion.seesr.options import SeesrOptions
from hypir_core.errors import Cancelled, ConfigError, SpecMismatchError, WeightsError, WeightsNotFoundError
from hypir_core.metrics.seams import seam_measure
from hypir_core.tiling.choose import lay_tiles
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileWish

GOLDEN = Path(__file__).parents[1] / "golden" / "seesr"
MODEL = {
    "base_model": str(GOLDEN / "sd-turbo"),
    "seesr": str(GOLDEN / "seesr"),
    "tagger": str(GOLDEN / "ram" / "ram_swin_large_14m.pth"),
    "tagger_lora": str(GOLDEN / "ram" / "DAPE.pth"),
    "tag_list": str(GOLDEN / "ram"),
    "process_px": 96,
}
CPU = torch.device("cpu")
PLAIN = Request(target=TargetSize(scale=2), color_fix=ColorFix.none, seed=5)


def engine(**options) -> Diffusion:
    return load_engine("seesr", MODEL | options, device=CPU, dtype="float32")


@cache
def picture(width: int = 64, height: int = 48) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 4, 5, generator=rng)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


class Counter:
    """Counts the pictures that go through a network."""

    def __init__(self, net: torch.nn.Module):
        self.forwards = self.images = 0
        net.register_forward_pre_hook(self._count)

    def _count(self, _net, given) -> None:
        self.forwards += 1
        self.images += len(given[0])


def nets_of(made: Diffusion) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return (UNet, ControlNet)."""
    shared = made.denoiser.placing.shared
    assert shared is not None
    unet, control = shared.norms.net
    return unet, control


@pytest.mark.parametrize(
    ("options", "passes", "images"),
    [
        ({"steps": 1}, 1, 1),
        ({"steps": 3}, 3, 1),
        ({"steps": 2, "cfg": 4.0}, 4, 1),
        ({"steps": 2, "particles": 3}, 2, 3),
        ({"steps": 2, "cfg": 0.7}, 2, 1),
    ],
    ids=str,
)
def test_networks_run_as_often_as_they_must(options, passes, images):
    """Steps × tiles × (1 + guidance) × particles, the ControlNet as often as the UNet."""
    made = engine(**options)
    counters = [Counter(net) for net in nets_of(made)]
    restore(made, picture(), PLAIN, Runtime())
    for counter in counters:
        assert counter.images == passes * images
        assert counter.forwards == passes


def test_tiles_multiply_the_passes():
    made = engine(steps=2)
    unet = Counter(nets_of(made)[0])
    wish = TileWish(tile_px=128, overlap_px=64)
    report = restore(made, picture(128, 64), replace(PLAIN, tile=wish), Runtime(batch_tiles=1)).report
    (rows, columns) = (int(n) for n in report.stages[1].tiles.split()[0].split("×"))
    sampled = 2  # once per step, what stands for the picture
    assert rows * columns > 1
    assert unet.forwards == 2 * rows * columns + sampled


def test_a_control_of_strength_0_is_none_bit_for_bit():
    made = engine(control_strength=0.0)
    shared = made.denoiser.placing.shared
    assert shared is not None
    assert type(shared.norms.net).__name__ == "UNet2DConditionModel"
    without = restore(made, picture(), PLAIN, Runtime()).image_01

    held = engine(control_strength=1.0)
    control = nets_of(held)[1]
    with torch.no_grad():
        for block in (*control.controlnet_down_blocks, control.controlnet_mid_block):
            block.weight.zero_()
            block.bias.zero_()
    assert torch.equal(restore(held, picture(), PLAIN, Runtime()).image_01, without)


def test_the_same_seed_gives_the_same_picture_and_another_seed_another():
    made = engine(steps=2, sampler="ddpm")
    one = restore(made, picture(), PLAIN, Runtime()).image_01
    assert torch.equal(restore(made, picture(), PLAIN, Runtime()).image_01, one)
    other = restore(made, picture(), replace(PLAIN, seed=6), Runtime()).image_01
    assert (other - one).abs().mean() > 0.01


def test_a_batch_is_its_singles():
    made = engine(steps=1)
    both = torch.cat([picture(), picture().flip(-1)])
    batch = restore(made, both, PLAIN, Runtime())
    for i, image in enumerate(both.split(1)):
        single = restore(made, image, PLAIN, Runtime()).image_01
        assert torch.equal(batch.image_01[i : i + 1], single)


@pytest.mark.parametrize("options", [{}, {"cfg": 1.5}, {"particles": 2}], ids=str)
def test_tiled_is_nearly_untiled(options):
    made = engine(steps=2, **options)
    image, request = picture(240, 160), replace(PLAIN, target=TargetSize(scale=4))
    tiled, whole = (
        restore(made, image, replace(request, tile=tile), Runtime()).image_01
        for tile in (TileWish(), TileWish(tile_px=1024))
    )
    assert -10 * (tiled - whole).square().mean().log10() >= 40
    prepared = made.prepare(Plane(image), (640, 960), request)
    for stage in made.stages(prepared, request)[1:]:
        plan = lay_tiles(stage, (640, 960), wish=TileWish(), runtime=Runtime()).plan
        edges = [
            sorted({edge for start, length in spans for edge in (start, start + length)} - {0, total})
            for spans, total in zip(plan.axes, (640, 960), strict=True)
        ]
        seams = [seam_measure(one, *edges) for one in (tiled, whole)]
        assert seams[0] / seams[1] <= 1.05


def test_what_one_step_learns_about_memory_the_next_one_knows():
    """The network itself runs out of memory above one tile; the second step begins where the first one ended."""
    made = engine(steps=2)
    unet = nets_of(made)[0]
    tried = []

    def room(_net, given) -> None:
        tried.append(len(given[0]))
        if len(given[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    request = replace(PLAIN, tile=TileWish(tile_px=128, overlap_px=64))
    wanted = restore(made, picture(128, 64), request, Runtime(batch_tiles=1))
    unet.register_forward_pre_hook(room)
    done = restore(made, picture(128, 64), request, Runtime(batch_tiles=4))
    first, second = done.report.stages[1:3]
    assert first.rungs
    assert (first.batch, second.batch, second.rungs) == (1, 1, ())
    failed = [count for count in tried if count > 1]
    assert len(failed) == len(first.rungs)
    torch.testing.assert_close(done.image_01, wanted.image_01, atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", [128, pytest.param(256, marks=pytest.mark.slow)])
def test_no_network_sees_more_than_a_tile_however_large_the_result(side):
    """A pass takes no more for 1024² than for 256²; only the picture itself grows."""

    def largest(side: int, scale: int = 4) -> dict[str, int]:
        made = engine(steps=1)
        vae = made.codec.encoding.shared.norms.net
        areas = {"unet": 0, "control": 0, "vae": 0}

        def count(name: str, net: torch.nn.Module) -> None:
            net.register_forward_pre_hook(
                lambda _net, given: areas.update({name: max(areas[name], given[0].numel())})
            )

        for name, net in zip(("unet", "control"), nets_of(made), strict=True):
            count(name, net)
        for net in (vae.encoder.conv_in, vae.decoder.conv_in):
            count("vae", net)
        request = replace(PLAIN, target=TargetSize(scale=scale), tile=TileWish(tile_px=128, overlap_px=32))
        image_01 = picture(side, side)
        result = restore(made, image_01, request, Runtime(batch_tiles=1)).image_01
        assert result.shape == (1, 3, side * scale, side * scale)
        return areas

    small, large = largest(64), largest(side)
    assert all(small.values())
    assert all(large[name] <= small[name] for name in small)


def test_particles_agree_more_than_they_would_alone():
    """Steered particles lie closer together, and the first of them begins like the only one."""
    made = engine(steps=4, particles=4, steering_strength=1.0, steering_begins=0.0)
    alone = replace(made, edits=lambda _prepared, _request: ())
    spread = {}
    for name, one in (("steered", made), ("alone", alone)):
        kept = []

        def first(images: Tensor, kept=kept) -> Tensor:
            kept.append(images)
            return images[:1]

        assert one.particles is not None
        watched = replace(one, particles=replace(one.particles, result=first))
        restore(watched, picture(), PLAIN, Runtime())
        spread[name] = float(kept[0].std(0).mean())
    assert spread["steered"] < 0.8 * spread["alone"]
    single = engine(steps=1)
    many = replace(
        engine(steps=1, particles=3, steering_strength=0.0),
    )
    first = replace(many, particles=replace(many.particles, result=lambda images: images[:1]))
    one = restore(single, picture(), PLAIN, Runtime()).image_01
    torch.testing.assert_close(restore(first, picture(), PLAIN, Runtime()).image_01, one, atol=1e-5, rtol=0)


def test_a_guide_is_added_to_the_structure(tmp_path):
    """A plain ControlNet (here SeeSR's, without its image blocks) reads a picture that the user gives."""
    from hypir_core.models.sd.image_blocks import MARK
    from hypir_core.weights.tensors import read_tensors, write_tensors

    file = GOLDEN / "seesr/controlnet/diffusion_pytorch_model.safetensors"
    plain = {name: t for name, t in read_tensors(file).tensors.items() if MARK not in name}
    (tmp_path / "config.json").write_text((file.parent / "config.json").read_text())
    write_tensors(tmp_path / "control.safetensors", plain, {})
    Image.radial_gradient("L").save(tmp_path / "lines.png")
    weights = (f"given={tmp_path / 'control.safetensors'}",)

    def with_guide(*guides: str) -> Tensor:
        made = engine(steps=1, guides=guides, guide_weights=weights)
        return restore(made, picture(), PLAIN, Runtime()).image_01

    plainly = restore(engine(steps=1), picture(), PLAIN, Runtime()).image_01
    lines = tmp_path / "lines.png"
    assert (with_guide(f"given={lines}") - plainly).abs().mean() > 0.003
    assert torch.equal(with_guide(f"given={lines}:0"), plainly)


def test_without_a_tagger_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HYPIR_HOME", str(tmp_path))
    options = {name: value for name, value in MODEL.items() if not name.startswith("tag")}
    made = load_engine("seesr", options, device=CPU, dtype="float32")
    report = restore(made, picture(), PLAIN, Runtime()).report
    assert any("no tagger was found" in note for note in report.notes)
    assert not report.tags
    off = load_engine("seesr", options | {"tagger": "off"}, device=CPU, dtype="float32")
    assert not any("no tagger" in note for note in off.spec.notes)
    with pytest.raises(WeightsNotFoundError, match="nowhere"):
        load_engine("seesr", options | {"tagger": "nowhere.pth"}, device=CPU, dtype="float32")


def test_the_users_words_and_the_report():
    photo = load_file(GOLDEN / "case_turbo_2.safetensors")["lq_uint8"][None].float() / 255
    made = engine(steps=1, tags="a dog, a hat")
    report = restore(made, photo, replace(PLAIN, prompt="at sea"), Runtime()).report
    assert report.prompt.startswith("a dog, a hat, at sea, clean")
    chances = [tag.probability for tag in report.tags]
    assert len(chances) > 1
    assert chances == sorted(chances, reverse=True)
    assert "Stability AI" in made.spec.licence
    assert made.spec.settings["image_blocks"] == {"merged": 260, "unused": 440}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"negative": "blur"}, "not read with cfg 1"),
        ({"steering_patch": 4}, "not read with one particle"),
        ({"tagger": "off", "max_tags": 3}, "not read with tagger=off"),
        ({"guide_weights": ("edge=a",)}, "not read without guides"),
        ({"steps": 0}, "steps must be from 1"),
        ({"particles": 17}, "particles must be from 1 to 16"),
        ({"reference_mode": True, "vae_exact": True}, "exclude each other"),
        ({"random_weights": "tiny", "seesr": Path("x")}, "random_weights needs no seesr"),
        ({"random_weights": "sd21"}, "sd-turbo or tiny"),
    ],
    ids=str,
)
def test_an_option_that_would_not_be_read_is_an_error(options, words):
    with pytest.raises(ConfigError, match=words):
        SeesrOptions(**options)


def test_a_base_that_needs_many_steps_is_told_so():
    with pytest.raises(ConfigError, match="--steps 20 or more with --cfg"):
        engine(base_model=str(GOLDEN / "sd2-base"))
    assert len(engine(base_model=str(GOLDEN / "sd2-base"), steps=20, cfg=5.5).steps) == 20
    assert len(engine(base_model=str(GOLDEN / "sd2-base"), spacing="trailing").steps) == 2


def test_everything_that_is_missing_is_named_at_once(monkeypatch, tmp_path):
    for name in ("HF_HOME", "HYPIR_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(WeightsNotFoundError) as caught:
        load_engine("seesr", {"base_model": str(tmp_path / "no"), "seesr": tmp_path / "none"}, device=CPU)
    assert "expected SD-Turbo" in str(caught.value)
    assert "expected SeeSR's UNet and ControlNet" in str(caught.value)


def test_files_of_another_kind_are_named(tmp_path):
    with pytest.raises(WeightsNotFoundError, match="image_attentions"):
        engine(seesr=GOLDEN / "sd-turbo/unet/diffusion_pytorch_model.safetensors")
    with pytest.raises((WeightsError, SpecMismatchError)):
        engine(tagger=str(GOLDEN / "sd-turbo/unet/diffusion_pytorch_model.safetensors"))


def test_random_weights_run_a_whole_picture():
    made = load_engine("seesr", {"random_weights": "tiny", "steps": 1}, device=CPU, dtype="bfloat16")
    done = restore(made, picture(), PLAIN, Runtime())
    assert done.image_01.shape == (1, 3, 96, 128)
    assert done.image_01.isfinite().all()


def test_networks_take_turns_on_the_device(caplog):
    """Whoever works is on the device; the tagger goes when it has looked, and nothing changes in the picture."""
    made, plain = engine(residency="one_at_a_time"), engine()
    assert plain.spec.key() == made.spec.key()
    result = restore(made, picture(), PLAIN, Runtime())
    assert torch.equal(result.image_01, restore(plain, picture(), PLAIN, Runtime()).image_01)
    assert result.report.networks_bytes.keys() == {"unet", "controlnet control", "vae"}
    elsewhere = torch.device("meta")  # where a network leaves its numbers: it can go there, not come back
    made.codec.encoding.place(elsewhere)
    assert {next(net.parameters()).device.type for net in nets_of(made)} == {"cpu"}
    both = engine()
    both.codec.encoding.place(CPU)
    both.denoiser.placing.place(elsewhere)
    assert {next(net.parameters()).device.type for net in nets_of(both)} == {"meta"}


def test_a_step_that_is_nan_in_its_format_is_made_again_in_float32_and_said():
    made = load_engine("seesr", MODEL | {"steps": 1}, device=CPU, dtype="bfloat16")

    def overflows(_net, _given, out):
        return tuple(part * float("nan") if part.dtype is torch.bfloat16 else part for part in out)

    nets_of(made)[0].register_forward_hook(overflows)
    done = restore(made, picture(), PLAIN, Runtime())
    assert done.image_01.isfinite().all()
    said = [note for stage in done.report.stages for note in stage.bad_tiles]
    assert len(said) == 1
    assert "NaN or infinity; repeated in float32" in said[0]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_person_may_stop_it_between_tiles_and_nothing_is_left(after):
    made = engine(steps=2)
    asked = iter(range(100))
    runtime = Runtime(batch_tiles=1, should_stop=lambda: next(asked) >= after)
    request = replace(PLAIN, tile=TileWish(tile_px=128, overlap_px=64))
    with pytest.raises(Cancelled, match="stopped in stage"):
        restore(made, picture(128, 64), request, runtime)
    again = restore(made, picture(), PLAIN, Runtime()).image_01
    assert torch.equal(again, restore(engine(steps=2), picture(), PLAIN, Runtime()).image_01)


def test_a_base_of_another_prediction_is_named_with_the_right_one(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(GOLDEN / "sd-turbo", base)
    file = base / "scheduler/scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "v_prediction"}))
    with pytest.raises(SpecMismatchError) as caught:
        engine(base_model=str(base))
    assert "expected a base model with eps prediction, got v prediction" in str(caught.value)
    assert "SD-Turbo" in str(caught.value)


def test_environment_variables_name_places(monkeypatch):
    for name, place in (
        ("SD_TURBO_PATH", "sd-turbo"),
        ("SEESR_MODEL_PATH", "seesr"),
        ("RAM_MODEL_PATH", "ram/ram_swin_large_14m.pth"),
    ):
        monkeypatch.setenv(name, str(GOLDEN / place))
    options = {"tag_list": GOLDEN / "ram", "tagger_lora": GOLDEN / "ram" / "DAPE.pth", "process_px": 96}
    made = load_engine("seesr", options, device=CPU, dtype="float32")
    assert made.spec.key() == engine().spec.key()


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.7])
def test_odd_sizes_come_back_exactly(scale):
    """Pictures smaller than the network's own size, too, with sides that nothing divides."""
    made = engine(steps=1)
    for height, width in ((33, 57), (1, 40)):
        done = restore(
            made, picture(width, height), replace(PLAIN, target=TargetSize(scale=scale)), Runtime()
        )
        assert done.image_01.shape == (1, 3, round(height * scale), round(width * scale))
        assert done.report.output_px == tuple(done.image_01.shape[-2:])


def test_the_exact_vae_equals_one_tile():
    request = replace(PLAIN, target=TargetSize(scale=4))
    whole = restore(engine(steps=1), picture(), replace(request, tile=TileWish(tile_px=512)), Runtime())
    exact = restore(engine(steps=1, vae_exact=True), picture(), request, Runtime())
    torch.testing.assert_close(exact.image_01, whole.image_01, atol=1e-4, rtol=0)


def test_a_guide_is_cropped_with_its_tile(tmp_path):
    """What a ControlNet reads in a tile is that part of the whole guide, and not the whole of it."""
    from hypir_core.models.sd.image_blocks import MARK
    from hypir_core.weights.tensors import read_tensors, write_tensors

    file = GOLDEN / "seesr/controlnet/diffusion_pytorch_model.safetensors"
    plain = {name: t for name, t in read_tensors(file).tensors.items() if MARK not in name}
    (tmp_path / "config.json").write_text((file.parent / "config.json").read_text())
    write_tensors(tmp_path / "control.safetensors", plain, {})
    Image.radial_gradient("L").resize((128, 64)).save(tmp_path / "lines.png")
    made = engine(
        steps=1,
        tagger="off",
        tagger_lora=None,
        tag_list=None,
        guides=(f"given={tmp_path / 'lines.png'}",),
        guide_weights=(f"given={tmp_path / 'control.safetensors'}",),
    )
    request = replace(PLAIN, tile=TileWish(tile_px=128, overlap_px=64))
    prepared = made.prepare(Plane(picture(128, 64)), (128, 256), request)
    whole = prepared.condition.guides["given"].data
    read = []
    nets = made.denoiser.placing.shared.norms.net
    nets[-1].controlnet_cond_embedding.register_forward_pre_hook(lambda _net, given: read.append(given[0]))
    report = restore(made, picture(128, 64), request, Runtime(batch_tiles=1)).report
    rows, columns = (int(n) for n in report.stages[1].tiles.split()[0].split("×"))
    crops = [
        whole[:, :, y : y + 128, x : x + 128]
        for y in range(0, whole.shape[2] - 127, 64)
        for x in range(0, whole.shape[3] - 127, 64)
    ]
    tiles = [seen for seen in read if seen.shape == crops[0].shape]
    matched = {i for i, crop in enumerate(crops) for seen in tiles if torch.equal(seen.float(), crop)}
    assert rows * columns > 1
    assert len(matched) == rows * columns
