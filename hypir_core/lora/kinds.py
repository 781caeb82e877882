"""What adapter files hold besides low-rank pairs of a UNet: text encoders, and adapters of other kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import SpecMismatchError
from ..weights.tensors import listed

_TEXT_ENCODER = re.compile(
    r"(?:base_model\.model\.)?"
    r"(?:lora_te\d*_|lycoris_te\d*_|te\d*_|text_encoder(?:_\d+)?\.|text_model\.|cond_stage_model\.|conditioner\.)"
)

_OTHER_KINDS = {
    "DoRA": re.compile(r"\.(?:dora_scale|lora_magnitude_vector)(?:\.|$)"),
    "LoHa": re.compile(r"\.hada_[wt]\d"),
    "LoKr": re.compile(r"\.lokr_[wt]\d"),
    "LoCon with a Tucker core": re.compile(r"\.lora_mid\.weight$"),
    "OFT": re.compile(r"\.(?:oft_blocks|oft_diag|oft_R)(?:\.|$)"),
    "BOFT": re.compile(r"\.boft_[RS](?:\.|$)"),
    "IA³": re.compile(r"\.(?:on_input$|ia3_l)"),
    "GLoRA": re.compile(r"\.[ab][12]\.weight$"),
    "VeRA": re.compile(r"\.vera_lambda_[bd](?:\.|$)"),
    "AdaLoRA": re.compile(r"\.lora_E(?:\.|$)"),
    "a LoRA with biases": re.compile(r"\.lora_(?:A|B|up|down)(?:\.[^.]+)?\.bias$"),
    "whole differences of weights": re.compile(r"\.(?:diff|diff_b)$"),
}
"""Kinds of adapters by the keys that only they have."""


def split_text_encoder(keys: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return (other keys, keys of a text encoder). A one-step LoRA has none of the second kind."""
    names = list(keys)
    text = [name for name in names if _TEXT_ENCODER.match(name)]
    left_out = set(text)
    return [name for name in names if name not in left_out], text


def refuse_other_kinds(keys: Iterable[str], where: object) -> None:
    """Refuse an adapter that is more than W + s·B·A.

    Raises:
        SpecMismatchError: names the kind and its keys.
    """
    names = list(keys)
    for kind, pattern in _OTHER_KINDS.items():
        found = [name for name in names if pattern.search(name)]
        if found:
            raise not_a_plain_lora(where, kind, f"by its keys: {listed(found)}")


def not_a_plain_lora(where: object, kind: str, reason: str) -> SpecMismatchError:
    """Return the error for an adapter of another kind; `reason` says where that is read."""
    return SpecMismatchError(
        f"{where}: expected a plain LoRA, got {kind} ({reason}); use a LoRA without it, or convert the file "
        "with the tool that made it"
    )
