"""The stages that a codec makes: picture → canvas, canvas → picture."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ...tiling.stage import CanvasFunction, Stage
from .parts import VAE_MARGIN_PX, Codec
from .sharing import of_network
from .sizing import Tiling

SHARES = {"encode": 0.25, "step": 0.3, "decode": 0.45}
"""Parts of one step's work, as measured with Stable Diffusion 2.1; more steps count more."""


def encode_stage(codec: Codec, tiling: Tiling, *, scale: float, after: CanvasFunction | None = None) -> Stage:
    """Return [n c h w] in [0,1] → latents times `scale`.

    Args:
        codec: one that encodes.
        tiling: how the engine lays the tiles itself, if it does.
        scale: the codec's own for a denoiser of this project, 1 for a LATENT of ComfyUI.
        after: what happens on the whole canvas then.
    """
    function = codec.encode
    assert function is not None, "the identity codec has no stage"

    def encode(tile_01: Tensor, _guides: Mapping[str, Tensor]) -> Tensor:
        return function(tile_01) * scale

    return Stage(
        name="encode",
        share=SHARES["encode"],
        run=encode,
        out_channels=codec.channels,
        out_strides=codec.cell_px,
        tile=codec.tile,
        after=after,
        **of_network(encode, codec.encoding, codec.encode_sample),
        **tiling.of(codec.cell_px, margin_px=VAE_MARGIN_PX, whole=codec.whole),
    )


def decode_stage(codec: Codec, tiling: Tiling, *, scale: float) -> Stage:
    """Return latents times `scale` → [n c H W], black 0 and white 1, not clamped; see `encode_stage`."""
    function = codec.decode
    assert function is not None, "the identity codec has no stage"

    def decode(latent: Tensor, _guides: Mapping[str, Tensor]) -> Tensor:
        return function(latent / scale)

    return Stage(
        name="decode",
        share=SHARES["decode"],
        run=decode,
        out_channels=codec.picture_channels,
        out_strides=1,
        tile=codec.tile,
        **of_network(decode, codec.decoding, codec.decode_sample),
        **tiling.of(codec.cell_px, margin_px=VAE_MARGIN_PX, whole=codec.whole),
    )
