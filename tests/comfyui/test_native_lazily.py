"""A MODEL keeps its patches wherever ComfyUI holds them: in the weights, or added while a layer is used."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from hypir_core import Runtime
from hypir_core.lora.merge import merge_lora_
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileWish
from hypir_core.tiling.run import run_stage
from hypir_core.weights.ldm_names import ldm_names
from tests.comfyui.small_unet import small_unet
from tests.comfyui.standalone_step import library_step_stage

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

CELLS = (16, 32)
"""Two tiles of 128 px that overlap by half, with a sample before."""


@pytest.fixture(scope="module")
def lazily(in_comfyui, weights, tmp_path_factory):
    """(what ComfyUI gave, what was said, the UNet with the same patches in its weights, what both were given)."""
    folder, _unet, lora = weights
    place = tmp_path_factory.mktemp("lazily")
    rng = torch.Generator().manual_seed(5)
    unet = small_unet()
    names = ldm_names(unet.state_dict())
    assert merge_lora_(unet, lora, strength=0.5) == len(lora.factors)
    given = {
        "latent": torch.randn(1, 4, *CELLS, generator=rng),
        "condition": torch.randn(1, 77, 1024, generator=rng),
    }
    tensors = unet.state_dict()
    for name, module in unet.named_modules():
        if isinstance(module, torch.nn.GroupNorm):
            for part in ("weight", "bias"):
                patch = torch.randn(module.num_channels, generator=rng) * 0.3
                tensors[f"{name}.{part}"] += patch  # in place: the module's own
                given[f"norm {names[f'{name}.{part}']}"] = patch
    save_file(given, place / "given.safetensors")
    keys = [names[next(iter(lora.factors)) + ".weight"], names["conv_norm_out.weight"]]
    got, said = in_comfyui(
        kind="lazily", unet=str(folder / "unet.safetensors"), loras=str(folder), lora="kohya.safetensors",
        given=str(place / "given.safetensors"), output=str(place), keys=keys, dtype="float16",
    )  # fmt: skip
    return got, said, unet, given | {"keys": dict.fromkeys(keys), "names": names}


def test_a_lazily_patched_model_gives_what_the_library_gives(lazily):
    got, said, unet, given = lazily
    stage = library_step_stage(unet, given["condition"])
    wish = TileWish(tile_px=128, overlap_px=64)
    out, report = run_stage(stage, Plane(given["latent"], 8), wish=wish, runtime=Runtime())
    assert report.tiles.startswith("1×3")
    assert said["lazy norms"] == said["norms"]  # every one is patched while it is used, none in its weights
    for how in ("whole", "partly", *(["dynamic"] if said["dynamic"] == "True" else [])):
        torch.testing.assert_close(
            got[how], out.data, atol=2e-3, rtol=0, msg=lambda m, how=how: f"{how}: {m}"
        )


def test_a_saved_checkpoint_has_every_patch_in_the_weights_and_the_format_that_was_asked_for(lazily):
    """The dynamic patcher refuses to patch by force, and hands out weights that are patched when they are written."""
    got, said, unet, given = lazily
    tensors, of_ldm = unet.state_dict(), {ldm: name for name, ldm in given["names"].items()}
    assert said.get("kind", "ModelPatcherDynamic") == "ModelPatcherDynamic"
    for key in given["keys"]:
        saved = got[f"saved {key}"]
        assert saved.dtype == torch.float16
        wanted = tensors[of_ldm[key]].half()
        torch.testing.assert_close(saved.reshape(wanted.shape), wanted, atol=1e-3, rtol=2e-3)
