"""Which modules of a UNet the published one-step LoRA adapts."""

from __future__ import annotations

TARGET_MODULES = (
    "to_k",
    "to_q",
    "to_v",
    "to_out.0",
    "conv",
    "conv1",
    "conv2",
    "conv_shortcut",
    "conv_out",
    "proj_in",
    "proj_out",
    "ff.net.2",
    "ff.net.0.proj",
)
"""Endings of the modules' names."""
