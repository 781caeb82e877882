"""A light decoder in the VAE's place: diffusers' own `Decoder` with half of the channels, on the tiny golden model."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import Decoder
from safetensors.torch import load_file

from hypir_core import ColorFix, Request, Runtime, TargetSize, load_engine, restore
from hypir_core.errors import SpecMismatchError
from hypir_core.models.sd.tiny_decoder import load_tiny_decoder
from hypir_core.tiling.plan import TileWish

CPU = torch.device("cpu")


def decoder(widths=(32, 32, 64, 64)):
    """Return a decoder with random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = Decoder(4, 3, ("UpDecoderBlock2D",) * 4, widths, layers_per_block=1)
    return net.eval().requires_grad_(False)


def saved(net, path):
    """Write the file as the trainer of AdcSR's does: a state dict with more in it than the decoder."""
    state = {f"decoder.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": state | {"loss.logvar": torch.zeros(())}, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("form", ["checkpoint", "bare"])
def test_it_decodes_what_the_vaes_own_would(golden, tmp_path, form):
    net, path = decoder(), tmp_path / "halfDecoder.ckpt"
    saved(net, path) if form == "checkpoint" else torch.save(net.state_dict(), path)
    model = golden / "hypir" / "model"
    given = {"lora": golden / "hypir" / "lora.pth", "base_model": str(model)}
    engine = load_engine("one-step", options=given | {"fast_decoder": str(path)}, device=CPU, dtype="float32")
    plain = load_engine("one-step", options=given, device=CPU, dtype="float32")
    photo_01 = load_file(golden / "hypir" / "case_3.safetensors")["lq_uint8"][..., :128, :128].float() / 255
    request = Request(target=TargetSize(scale=1), color_fix=ColorFix.none)
    restored = restore(engine, photo_01, request, Runtime())
    vae = AutoencoderKL.from_pretrained(model / "vae").float()
    with torch.inference_mode():
        assert plain.codec.encode is not None
        z = plain.codec.encode(photo_01) * 0.18215
        words = plain.conditioner(
            photo_01, plain.sizing.place(photo_01, (128, 128), request, default_scale=1), request
        )
        x0 = 1.151869 * z - 0.571666 * plain.denoiser.predict(z, plain.steps[0], words.value, {})
        expected = (net(vae.post_quant_conv(x0 / 0.18215)) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(restored.image_01, expected, rtol=0, atol=1e-4)
    assert restored.report.notes == (
        "decoded by a light decoder (halfDecoder.ckpt): close to the VAE's own, not the same",
    )
    if form == "bare":  # its norms are shared by tiles, as the VAE's are
        wish = TileWish(tile_px=128, overlap_px=32)
        photo_01 = load_file(golden / "hypir" / "case_3.safetensors")["restored"][..., :256, :192]
        request = Request(target=TargetSize(scale=1), color_fix=ColorFix.none, tile=wish)
        assert restore(engine, photo_01, request, Runtime()).image_01.isfinite().all()
        assert engine.codec.decoding.shared is not None


@pytest.mark.parametrize("widths", [(128, 256, 512, 512), (32, 32, 64)])
def test_another_decoder_is_refused(tmp_path, widths):
    with torch.device("meta"):
        net = Decoder(4, 3, ("UpDecoderBlock2D",) * len(widths), widths, layers_per_block=1)
    small = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in net.state_dict().items()}
    torch.save({name: tensor.to(torch.float16) for name, tensor in small.items()}, tmp_path / "a.ckpt")
    with pytest.raises(
        SpecMismatchError, match=r"narrower than \(128, 256, 512, 512\); got 4 latent channels"
    ):
        load_tiny_decoder(str(tmp_path / "a.ckpt"))
