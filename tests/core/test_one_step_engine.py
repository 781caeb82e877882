"""The one-step engine on the tiny golden model: tiles, sizes, controls, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from hypir_core import ColorFix, Request, Runtime, TargetSize, load_engine, restore
from hypir_core.engines.catalog import ENGINES
from hypir_core.engines.diffusion.options import OneStepOptions
from hypir_core.engines.diffusion.reference import original_spans, original_weights
from hypir_core.engines.diffusion.sizing import canvas_for, mirror_to
from hypir_core.errors import ConfigError, SpecMismatchError, WeightsError, WeightsNotFoundError
from hypir_core.models.sd import vae_exact
from hypir_core.models.sd.backbone import load_base
from hypir_core.models.sd.vae_exact import exact_decode, exact_encode
from hypir_core.tiling.choose import lay_tiles
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileWish
from hypir_core.weights.search.locate import locate_base
from tests.core.reference_models import read_text_encoder

CPU = torch.device("cpu")
SAME_SIZE = TargetSize(scale=1)


def load(golden, dtype="float32", **options):
    given = {"lora": golden / "hypir" / "lora.pth", "base_model": str(golden / "hypir" / "model")}
    return load_engine("one-step", options=given | options, device=CPU, dtype=dtype)


@pytest.fixture(scope="session")
def engine(golden):
    return load(golden)


@pytest.fixture(scope="session")
def photo_01(golden):
    """[1 3 150 131]"""
    return load_file(golden / "hypir" / "case_3.safetensors")["lq_uint8"].float() / 255


def run(engine, image_01, **wishes):
    mask_01, runtime = wishes.pop("mask_01", None), wishes.pop("runtime", Runtime())
    request = Request(**{"target": SAME_SIZE} | wishes)
    return restore(engine, image_01, request, runtime, mask_01=mask_01)


def test_one_tile_equals_the_libraries_called_directly(golden, photo_01):
    """The modules of diffusers, the LoRA added by its definition, the constants of the paper's t = 200."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    folder = golden / "hypir" / "model"
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").float()
    vae = AutoencoderKL.from_pretrained(folder / "vae").float()
    text_encoder = read_text_encoder(folder / "text_encoder").float()
    lora = torch.load(golden / "hypir" / "lora.pth", weights_only=True)
    weights = dict(unet.named_parameters())
    with torch.no_grad():
        for name, down in lora.items():
            if ".lora_A." in name:
                up = lora[name.replace("lora_A", "lora_B")].float()
                weight = weights[name.replace("lora_A.default.", "")]
                weight += torch.einsum("or,r...->o...", up.flatten(1), down.float())
    picture = photo_01[..., :128, :128]
    with torch.inference_mode():
        context = text_encoder(torch.tensor([[520, 521, *[0] * 75]])).last_hidden_state
        z = vae.encode(picture * 2 - 1).latent_dist.mean * 0.18215
        x0 = 1.151869 * z - 0.571666 * unet(z, 200, context).sample
        expected = (vae.decode(x0 / 0.18215).sample / 2 + 0.5).clamp(0, 1)
    ours = run(load(golden), picture, color_fix=ColorFix.none).image_01
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def test_tiles_change_nothing_for_networks_that_look_at_one_cell(engine, rng):
    """A mean per cell as encoder, a tenth as prediction, a repetition as decoder: known in closed form."""
    codec = replace(
        engine.codec,
        encode=lambda x: F.avg_pool2d(x * 2 - 1, 8).repeat(1, 2, 1, 1)[:, :4],
        decode=lambda z: F.interpolate(z[:, :3], scale_factor=8, mode="nearest") / 2 + 0.5,
    )
    denoiser = replace(engine.denoiser, predict=lambda z, *_: 0.1 * z)
    local = replace(engine, codec=codec, denoiser=denoiser)
    picture, a_bar = torch.rand(1, 3, 320, 456, generator=rng), engine.steps[0].a_bar
    factor = (1 - 0.1 * (1 - a_bar) ** 0.5) / a_bar**0.5
    padded = mirror_to(picture, (320, 512))
    cells = F.avg_pool2d(padded * 2 - 1, 8) * factor / 2 + 0.5
    expected = F.interpolate(cells, scale_factor=8, mode="nearest")[..., :456].clamp(0, 1)
    for tile_px, overlap_px in ((512, 0), (128, 0), (128, 64), (192, 64)):
        out = run(
            local,
            picture,
            tile=TileWish(tile_px=tile_px, overlap_px=overlap_px),
            color_fix=ColorFix.none,
        )
        torch.testing.assert_close(out.image_01, expected, rtol=0, atol=1e-5)
    assert all("1×1" not in stage.tiles for stage in out.report.stages)


def test_every_stage_has_its_own_default_tiles(engine):
    prepared = engine.prepare(Plane(torch.rand(1, 3, 8, 8)), (1024, 2048), Request())
    encode, step, decode = engine.stages(prepared, Request())
    assert encode.tile == decode.tile
    assert encode.tile.tile_px > step.tile.tile_px
    for stage in (encode, step, decode):
        laid = lay_tiles(stage, (1024, 2048), wish=TileWish(tile_px=256), runtime=Runtime())
        assert laid.rung.tile.tile_px == 256
    assert [stage.name for stage in (encode, step, decode)] == ["encode", "step 1/1", "decode"]


def test_the_same_wish_gives_the_same_picture(engine, photo_01):
    assert torch.equal(run(engine, photo_01).image_01, run(engine, photo_01, seed=5).image_01)


def test_a_batch_equals_its_pictures(engine, photo_01):
    pair = torch.cat([photo_01, photo_01.flip(-1)])
    together = run(engine, pair).image_01
    for one, picture in zip(together, pair, strict=True):
        torch.testing.assert_close(one[None], run(engine, picture[None]).image_01, rtol=0, atol=5e-5)


def test_the_prompt_changes_the_result(engine, photo_01):
    plain, cat = run(engine, photo_01).image_01, run(engine, photo_01, prompt="a photo of the cat").image_01
    assert (plain - cat).abs().mean() > 1e-3


def test_a_long_prompt_is_reported(engine, photo_01):
    notes = run(engine, photo_01, prompt="cat " * 99).report.notes
    assert any("tokens were not used" in note for note in notes)


def test_strength_and_mask_keep_the_input(engine, photo_01):
    full = run(engine, photo_01).image_01
    assert torch.equal(run(engine, photo_01, strength=0.0).image_01, photo_01)
    half = run(engine, photo_01, strength=0.5).image_01
    inside = (full > 0) & (full < 1)  # what was not clamped
    assert inside.float().mean() > 0.9
    torch.testing.assert_close(half[inside], ((full + photo_01) / 2)[inside], rtol=0, atol=1e-6)
    mask = torch.zeros(1, 1, *photo_01.shape[-2:])
    mask[..., 60:] = 1
    masked = run(engine, photo_01, mask_01=mask).image_01
    torch.testing.assert_close(masked[..., :60], photo_01[..., :60], rtol=0, atol=1e-6)
    torch.testing.assert_close(masked[..., 60:], full[..., 60:], rtol=0, atol=1e-6)


def test_the_loras_strength_moves_the_result_steadily(golden, photo_01):
    by_strength = [run(load(golden, lora_strength=s), photo_01).image_01 for s in (0.0, 0.5, 1.0)]
    none, half, full = by_strength
    assert (full - none).abs().mean() > (half - none).abs().mean() > 1e-4


def test_coeff_t_only_changes_how_the_prediction_is_applied(golden, engine, rng):
    z = torch.randn(1, 4, 16, 16, generator=rng)

    def x0(engine):
        prepared = engine.prepare(Plane(torch.rand(1, 3, 8, 8)), (128, 128), Request())
        return engine.stages(prepared, Request())[1].run(z, {})

    eps = (1.151869 * z - x0(engine)) / 0.571666
    torch.testing.assert_close(
        x0(load(golden, coeff_t=100)), 1.057492 * z - 0.343932 * eps, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (1, 1), (7, 33), (129, 127)])
def test_thin_and_tiny_pictures(engine, rng, size):
    out = run(engine, torch.rand(1, 3, *size, generator=rng))
    assert out.image_01.shape == (1, 3, *size)
    assert out.image_01.isfinite().all()


def test_grey_pictures_come_back_grey(engine, photo_01):
    assert run(engine, photo_01[:, :1]).image_01.shape == photo_01[:, :1].shape


@given(st.integers(1, 3000), st.integers(1, 3000))
@settings(max_examples=300, deadline=None)
def test_the_canvas_never_explodes(h, w):
    content, canvas = canvas_for((h, w), native_px=512)
    if max(h, w) >= 512:
        assert content == (h, w)
    assert max(content) >= 0.75 * 512
    for side, whole in zip(content, canvas, strict=True):
        assert whole % 64 == 0
        assert max(side, 512) <= whole < max(side, 512) + 64
    assert abs(content[0] / content[1] - h / w) <= (h / w) * (1 / min(content) + 1 / min(h, w))


@given(st.integers(1, 9), st.integers(1, 40))
@settings(deadline=None)
def test_mirroring_is_numpys_reflection(length, extra):
    import numpy as np

    line = torch.arange(length, dtype=torch.float32).reshape(1, 1, 1, length)
    ours = mirror_to(line, (3, length + extra))
    mode = "reflect" if length > 1 else "edge"
    expected = np.pad(line.numpy(), [(0, 0), (0, 0), (0, 2), (0, extra)], mode="edge")
    expected[0, 0, :] = np.pad(line.numpy()[0, 0, 0], (0, extra), mode=mode)
    assert np.array_equal(ours.numpy(), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.03), ("float16", 0.004)])
def test_half_formats_stay_close(golden, engine, photo_01, dtype, tolerance):
    out = run(load(golden, dtype=dtype), photo_01).image_01
    assert out.dtype == torch.float32
    assert (out - run(engine, photo_01).image_01).abs().mean() < tolerance


def test_progress_names_the_stages(engine, photo_01):
    seen = []
    run(engine, photo_01, runtime=Runtime(progress=lambda tick: seen.append(tick.stage)))
    assert list(dict.fromkeys(seen))[:3] == ["encode", "step 1/1", "decode"]


def test_a_v_prediction_base_is_refused(golden, tmp_path):
    shutil.copytree(golden / "hypir" / "model", tmp_path / "v")
    file = tmp_path / "v" / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text()) | {"prediction_type": "v_prediction"}
    file.chmod(0o644)
    file.write_text(json.dumps(config))
    with pytest.raises(SpecMismatchError, match="v2-1_512-ema-pruned"):
        load(golden, base_model=str(tmp_path / "v"))


def test_a_merged_model_needs_no_lora(golden, tmp_path, engine, photo_01):
    from hypir_core.lora.convert import convert

    shutil.copytree(golden / "hypir" / "model", tmp_path / "merged")
    unet = tmp_path / "merged" / "unet" / "diffusion_pytorch_model.safetensors"
    unet.chmod(0o644)
    base = golden / "hypir" / "model"
    convert(golden / "hypir" / "lora.pth", unet, to="merged", base=base, dtype=torch.float32, force=True)
    merged = load(golden, base_model=str(tmp_path / "merged"), lora=None)
    torch.testing.assert_close(
        run(merged, photo_01).image_01, run(engine, photo_01).image_01, rtol=0, atol=1e-4
    )
    assert merged.spec.weights.startswith("merged, rank 4")
    with pytest.raises(ConfigError, match="already merged"):
        load(golden, base_model=str(tmp_path / "merged"))


def test_a_lora_for_another_model_is_refused(golden, tmp_path):
    lora = torch.load(golden / "hypir" / "lora.pth", weights_only=True)
    save_file({name: t for name, t in lora.items() if "mid_block" not in name}, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match="missing modules"):
        load(golden, lora=tmp_path / "less.safetensors")


def test_missing_files_are_named(golden, tmp_path):
    with pytest.raises(WeightsNotFoundError, match="nowhere"):
        load(golden, base_model=str(tmp_path / "nowhere"))
    with pytest.raises(WeightsNotFoundError, match=r"nothing\.pth"):
        load(golden, lora=tmp_path / "nothing.pth")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lora_strength": 3}, "0 to 2"),
        ({"coeff_t": 1000}, "0 … 999"),
        ({"reference_mode": True, "vae_exact": True}, "exclude each other"),
        ({"download": True, "offline": True}, "exclude each other"),
        ({"random_weights": "sd21", "lora": "a.pth"}, "needs no lora"),
        ({"random_weights": "sd15"}, "random_weights"),
        ({"lora_strenght": 1}, "did you mean 'lora_strength'"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        load_engine("one-step", options=options, device=CPU)


@pytest.mark.parametrize("size", [(128, 128), (192, 320)])
def test_the_exact_vae_equals_the_untiled_one(golden, rng, monkeypatch, size):
    vae = load_base(locate_base(str(golden / "hypir" / "model"))).vae
    monkeypatch.setattr(vae_exact, "BAND_BYTES", 1 << 19)  # many bands even in a small picture
    picture = torch.rand(2, 3, *size, generator=rng) * 2 - 1
    with torch.inference_mode():
        latent = vae.encode(picture).latent_dist.mean
        torch.testing.assert_close(exact_encode(vae, picture, store=CPU), latent, rtol=0, atol=1e-4)
        torch.testing.assert_close(
            exact_decode(vae, latent, store=CPU), vae.decode(latent).sample, rtol=0, atol=1e-4
        )


def test_the_exact_mode_equals_one_tile(golden, engine, photo_01):
    big = photo_01.repeat(1, 1, 2, 2)[..., :256, :256]
    whole = run(engine, big, tile=TileWish(tile_px=512, overlap_px=0))
    exact = run(load(golden, vae_exact=True), big)
    assert all("1×1" in stage.tiles for stage in whole.report.stages)
    torch.testing.assert_close(exact.image_01, whole.image_01, rtol=0, atol=1e-4)


def test_the_exact_vae_refuses_other_layers(golden):
    vae = load_base(locate_base(str(golden / "hypir" / "model"))).vae
    vae.decoder.mid_block.attentions[0].heads = 2
    with pytest.raises(SpecMismatchError, match="leave out vae_exact"):
        exact_decode(vae, torch.zeros(1, 4, 16, 16), store=CPU)


def test_listing_the_engine_imports_nothing_heavy():
    assert ENGINES.get("one-step").options is OneStepOptions


def test_reference_mode_needs_multiples_of_8(golden, photo_01):
    reference = load(golden, reference_mode=True)
    with pytest.raises(ConfigError, match="multiples of 8"):
        reference.prepare(Plane(photo_01), (0, 0), Request(tile=TileWish(tile_px=100)))


@given(st.integers(128, 4000), st.sampled_from([(128, 64), (128, 0), (192, 96), (512, 128)]))
@settings(deadline=None)
def test_the_originals_tiles_cover_and_weigh_to_one(length, layout):
    tile_px, overlap_px = layout
    if length < tile_px:
        return
    spans = original_spans(length, tile_px, overlap_px)
    assert spans[0][0] == 0
    assert sum(spans[-1]) == length
    assert all(start % (tile_px - overlap_px) == 0 for start, _ in spans[:-1])
    assert len({start for start, _ in spans}) == len(spans)
    total = torch.zeros(length)
    for (start, size), weights in zip(spans, original_weights(spans, length, middle=0.5), strict=True):
        assert weights.min() > 0
        total[start : start + size] += weights
    torch.testing.assert_close(total, torch.ones(length))


def test_convention_the_originals_rows_lean_by_half_a_cell():
    (columns,), (rows,) = (original_weights([(0, 8)], 8, middle=middle) for middle in (0.5, 0.0))
    torch.testing.assert_close(columns, rows)  # one tile alone is weighed 1 everywhere
    spans = [(0, 8), (4, 8)]
    even, leaning = (original_weights(spans, 12, middle=middle)[0] for middle in (0.5, 0.0))
    torch.testing.assert_close(even[4:], 1 - even[4:].flip(0))
    assert (leaning[4:] > even[4:]).all()
