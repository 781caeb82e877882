"""S3Diff: adapters that are mixed anew for every picture. That it agrees with its authors is shown in tests/parity."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from hypir_core import ColorFix, Request, Runtime, TargetSize, load_engine, restore
from hypir_core.engines.diffusion.per_picture import find_estimating
from hypir_core.errors import ConfigError, SpecMismatchError, WeightsNotFoundError
from hypir_core.lora.mixing import block_of
from hypir_core.models.sd import degradation
from tests.core import one_step_files as files

CPU = torch.device("cpu")
PLAIN = Request(target=TargetSize(scale=1), color_fix=ColorFix.none)


@pytest.fixture(scope="module")
def given(golden, tmp_path_factory):
    weights, estimator = files.s3diff(tmp_path_factory.mktemp("s3diff"))
    return {
        "lora": str(weights),
        "degradation": str(estimator),
        "base_model": str(golden / "hypir" / "model"),
    }


def load(given, **changes):
    return load_engine("one-step", options={**given, **changes}, device=CPU, dtype="float32")


@pytest.fixture(scope="module")
def engine(given):
    return load(given)


@pytest.fixture(scope="module")
def photos(golden):
    """Return three pictures, the second one blurred and noisy."""
    photo = load_file(golden / "hypir" / "case_3.safetensors")["restored"].float()
    first = photo[..., :64, :64]
    draw = torch.randn(first.shape, generator=torch.Generator().manual_seed(1))
    second = (torch.nn.functional.avg_pool2d(first, 7, 1, 3) + 0.1 * draw).clamp(0, 1)
    return torch.cat([first, second, photo[..., 64:128, :64]])


def picture(engine, photo_01, request=PLAIN):
    return restore(engine, photo_01, request, Runtime()).image_01


def test_every_picture_is_mixed_for_itself_whatever_came_before(engine, photos):
    alone = torch.cat([picture(engine, photo[None]) for photo in photos])
    again = torch.cat([picture(engine, photo[None]) for photo in photos.flip(0)]).flip(0)
    together = picture(engine, photos)
    assert torch.equal(alone, again)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_blur_and_noise_decide_and_are_reported(given, engine, photos):
    restored = restore(engine, photos[:1], PLAIN, Runtime())
    note = next(note for note in restored.report.notes if note.startswith("blur 0."))
    assert "as de_net.pth sha256:" in note
    assert "S3Diff: Apache-2.0; base model: Stability AI Community License" in engine.spec.licence
    seen = find_estimating(given["degradation"], files.MODEL).estimate(photos[:1])
    exactly = ",".join(f"{value:.9f}" for value in seen)
    torch.testing.assert_close(
        picture(load(given, degradation=exactly), photos[:1]), restored.image_01, rtol=0, atol=1e-5
    )
    other = restore(load(given, degradation="0.9,0.1"), photos[:1], PLAIN, Runtime())
    assert (other.image_01 - restored.image_01).abs().mean() > 0.01
    assert "blur 0.90, noise 0.10, as given; 0 to 1 each" in other.report.notes


def test_a_strength_of_0_mixes_nothing_in(given, photos):
    none, one = (picture(load(given, lora_strength=0, degradation=d), photos[:1]) for d in ("0,0", "1,1"))
    assert torch.equal(none, one)


def test_bfloat16_is_close(given, engine, photos):
    half = load_engine("one-step", options=given, device=CPU, dtype="bfloat16")
    difference = (picture(half, photos[:1]) - picture(engine, photos[:1])).abs().mean()
    assert 0 < difference < 0.05, difference


def test_a_large_picture_is_looked_at_in_parts(given, photos, monkeypatch):
    estimate = find_estimating(given["degradation"], files.MODEL).estimate
    whole = estimate(photos[:1])
    monkeypatch.setattr(degradation, "BAND_PX", 32)
    parts = estimate(photos[:1])
    assert not torch.equal(parts, whole)  # borders
    torch.testing.assert_close(parts, whole, rtol=0, atol=0.02)


def test_modules_take_the_matrix_of_their_block():
    unet = ("conv_out", "down_blocks.3.resnets.0.conv1", "mid_block.resnets.0.conv1", "up_blocks.2.x")
    assert [block_of(module, 10) for module in unet] == [9, 3, 4, 7]
    vae = ("encoder.conv_in", "encoder.down_blocks.1.resnets.0.conv1", "encoder.mid_block.x")
    assert [block_of(module, 6) for module in vae] == [5, 1, 4]


def test_what_is_missing_or_wrong_is_told(given, tmp_path):
    (tmp_path / "s3diff.pkl").symlink_to(given["lora"])
    alone = {**given, "lora": str(tmp_path / "s3diff.pkl"), "degradation": None}
    with pytest.raises(
        WeightsNotFoundError, match=r"de_net.pth: expected de_net.pth, which tells S3Diff how"
    ):
        load(alone)
    with pytest.raises(ConfigError, match=r"two numbers from 0 to 1, blur and noise \(0.3,0.6\), got '2,0'"):
        load(given, degradation="2,0")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(SpecMismatchError, match=r"expected the estimator of blur and noise of S3Diff"):
        load(given, degradation=str(tmp_path / "other.pth"))
    osediff = files.osediff(tmp_path / "osediff.pkl")
    with pytest.raises(ConfigError, match="OSEDiff is not mixed by blur and noise; leave out degradation"):
        load(given, lora=str(osediff), tagger="off")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("state_dict_unet_fuse_mlp", r"expected the layers that mix S3Diff's adapters of the unet"),
        ("w", r"do not fit each other"),
        ("vae_lora_target_modules", r"and of no others; differs in"),
    ],
)
def test_a_spoilt_file_is_refused(given, tmp_path, entry, said):
    content = torch.load(given["lora"], weights_only=True)
    content[entry] = {
        "state_dict_unet_fuse_mlp": {},
        "w": torch.ones(3),
        "vae_lora_target_modules": r"^encoder\..*conv1$",
    }[entry]
    torch.save(content, tmp_path / "x.pkl")
    with pytest.raises(SpecMismatchError, match=said):
        load(given, lora=str(tmp_path / "x.pkl"))
