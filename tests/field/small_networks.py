"""Small networks with random numbers, one of every architecture that spandrel can build small."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

BLOCKS: dict[str, Any] = {"img_size": 16, "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2]}
UNET = {"middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}
SHUFFLED = {"upscale": 2, "upsampler": "pixelshuffle"}

NETWORKS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "ATD": (
        "ATD",
        {
            **BLOCKS,
            "img_size": 32,
            "window_size": 8,
            "category_size": 16,
            "num_tokens": 8,
            "reducted_dim": 4,
            "mlp_ratio": 2.0,
            "upscale": 2,
            "upsampler": "pixelshuffledirect",
        },
    ),
    "AuraSR": (
        "AuraSR",
        {
            "dim": 8,
            "image_size": None,
            "input_image_size": None,
            "init_dim": 8,
            "style_network": {"dim_in": 8, "dim_out": 16, "depth": 1},
            "up_dim_mults": (1,) * 5,
            "down_dim_mults": (1,) * 3,
            "full_attn": (False,) * 5,
            "self_attn_dim_head": 4,
            "attn_depths": (2,) * 5,
            "mid_attn_depth": 1,
            "num_conv_kernels": 2,
            "skip_connect_scale": 0.4,
        },
    ),
    "CRAFT": (
        "CRAFT",
        {
            "window_size": 16,
            "embed_dim": 12,
            "depths": [2, 2],
            "num_heads": [2, 2],
            "split_size_0": 4,
            "split_size_1": 16,
            "mlp_ratio": 2.0,
            "upscale": 2,
        },
    ),
    "Compact": ("Compact", {"num_feat": 8, "num_conv": 2, "upscale": 2}),
    "DAT": (
        "DAT",
        {
            "img_size": 16,
            "embed_dim": 32,
            "split_size": [4, 8],
            "depth": [3, 3],
            "num_heads": [2, 2],
            "expansion_factor": 2.0,
            **SHUFFLED,
        },
    ),
    "DCTLSA": ("DCTLSA", {"nf": 20, "num_modules": 6, "upscale": 2}),
    "DITN": ("DITN", {"dim": 12, "ITL_blocks": 1, "SAL_blocks": 1, "upscale": 2}),
    "DRCT": ("DRCT", {**BLOCKS, "window_size": 8, "mlp_ratio": 2, "gc": 8, **SHUFFLED}),
    "DRUNet": ("DRUNet", {"in_nc": 4, "out_nc": 3, "nc": [8] * 4, "nb": 2}),
    "DnCNN": ("DnCNN", {"in_nc": 1, "out_nc": 1, "nc": 8, "nb": 5, "mode": "DnCNN"}),
    "DnCNN with noise channel": ("DnCNN", {"in_nc": 4, "out_nc": 3, "nc": 8, "nb": 5, "mode": "FDnCNN"}),
    "ESRGAN": ("ESRGAN", {"num_filters": 8, "num_blocks": 1, "scale": 4}),
    "ESRGAN folded": ("ESRGAN", {"num_filters": 8, "num_blocks": 1, "scale": 2, "shuffle_factor": 2}),
    "ESRGAN of 4 bands": ("ESRGAN", {"in_nc": 4, "out_nc": 4, "num_filters": 8, "num_blocks": 1, "scale": 2}),
    "FBCNN": ("FBCNN", {"nc": [8, 8, 8, 512], "nb": 2}),
    "FDAT": (
        "FDAT",
        {
            "scale": 2,
            "embed_dim": 16,
            "num_groups": 1,
            "depth_per_group": 2,
            "num_heads": 2,
            "mid_dim": 8,
            "upsampler_type": "pixelshuffledirect",
        },
    ),
    "FFTformer": ("FFTformer", {"dim": 8, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1}),
    "GRL": (
        "GRL",
        {
            "img_size": 16,
            "embed_dim": 16,
            "upscale": 2,
            "upsampler": "pixelshuffledirect",
            "depths": [2, 2],
            "num_heads_window": [2, 2],
            "num_heads_stripe": [2, 2],
            "window_size": 8,
            "stripe_size": [8, 8],
            "anchor_window_down_factor": 2,
        },
    ),
    "HAT": ("HAT", {**BLOCKS, "window_size": 8, "compress_ratio": 3, "squeeze_factor": 3, **SHUFFLED}),
    "HVICIDNet": ("HVICIDNet", {"channels": [8, 8, 16, 16], "heads": [1, 2, 2, 2]}),
    "IPT": (
        "IPT",
        {
            "patch_size": 12,
            "patch_dim": 3,
            "n_feats": 8,
            "scale": [2],
            "num_heads": 12,
            "num_layers": 1,
            "num_queries": 1,
        },
    ),
    "KBNet": ("KBNet_s", {"width": 8, **UNET}),
    "MMRealSR": (
        "MMRealSR",
        {
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 16,
            "num_block": 1,
            "num_grow_ch": 8,
            "num_feats": [8] * 4,
            "num_blocks": [1] * 4,
            "downscales": [1, 1, 2, 1],
        },
    ),
    "MixDehazeNet": ("MixDehazeNet", {"embed_dims": [8, 16, 32, 16, 8], "depths": [1] * 5}),
    "MoESR": ("MoESR", {"scale": 2, "dim": 16, "n_blocks": 1, "n_block": 1}),
    "MoSR": ("MoSR", {"upscale": 2, "n_block": 2, "dim": 16, "upsampler": "ps"}),
    "NAFNet": ("NAFNet", {"width": 8, **UNET}),
    "OmniSR": ("OmniSR", {"num_feat": 16, "block_num": 1, "res_num": 1, "up_scale": 2}),
    "PLKSR": ("PLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "RealPLKSR": ("RealPLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "RCAN": ("RCAN", {"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 16, "reduction": 4}),
    "RGT": (
        "RGT",
        {
            "img_size": 16,
            "embed_dim": 12,
            "depth": [2, 2],
            "num_heads": [2, 2],
            "split_size": [8, 8],
            "upscale": 2,
            "c_ratio": 0.5,
        },
    ),
    "RealCUGAN ×2": ("UpCunet2x", {}),
    "RealCUGAN ×3": ("UpCunet3x", {}),
    "RealCUGAN ×4": ("UpCunet4x", {}),
    "RestoreFormer": (
        "RestoreFormer",
        {
            "n_embed": 16,
            "embed_dim": 32,
            "ch": 32,
            "ch_mult": (1,) * 6,
            "num_res_blocks": 1,
            "z_channels": 32,
            "head_size": 2,
        },
    ),
    "RetinexFormer": ("RetinexFormer", {"n_feat": 8, "stage": 1, "num_blocks": [1, 1, 1]}),
    "SAFMN": ("SAFMN", {"dim": 8, "n_blocks": 1, "upscaling_factor": 2}),
    "SAFMNBCIE": ("SAFMNBCIE", {"dim": 8, "n_blocks": 1, "num_layers": 1, "upscaling_factor": 2}),
    "SCUNet": ("SCUNet", {"config": [2] * 7, "dim": 64}),
    "SPAN": ("SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2, "norm": False}),
    "SeemoRe": (
        "SeemoRe",
        {"scale": 2, "in_chans": 3, "num_experts": 3, "num_layers": 2, "embedding_dim": 12, "topk": 1},
    ),
    "SwiftSRGAN": ("SwiftSRGAN", {"num_channels": 8, "num_blocks": 1, "upscale_factor": 2}),
    "Swin2SR": ("Swin2SR", {**BLOCKS, "window_size": 8, **SHUFFLED}),
    "SwinIR": ("SwinIR", {**BLOCKS, "window_size": 8, **SHUFFLED}),
    "Uformer": ("Uformer", {"img_size": 128, "embed_dim": 4, "depths": [1] * 9, "num_heads": [1] * 9}),
}
"""What a person calls it → the class in spandrel's package, and small sizes."""

HOMES = {"RealPLKSR": "PLKSR"}

NOT_SMALL = {"GFPGAN"}
"""Architectures whose sizes spandrel does not read from the file."""


def made(name: str) -> nn.Module:
    """Return a small network with random numbers."""
    home = importlib.import_module(f"spandrel.architectures.{HOMES.get(name, name.split(maxsplit=1)[0])}")
    cls, sizes = NETWORKS[name]
    torch.manual_seed(0)
    return getattr(home, cls)(**sizes).eval()
