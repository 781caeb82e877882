"""Nodes of other HYPIR ports that ComfyUI may replace by Restore Image.

Only what means the same in both is carried over: the picture, the prompt and the factor. ComfyUI drops every input that
is not named here, also of prompts that come over the API, so each required one gets its usual value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .inputs import SizeRule
from .restore import HypirRestoreImage


def replacement(
    old: str,
    *,
    widgets: Sequence[str],
    carried: Mapping[str, str],
    outputs: Sequence[tuple[int, int]],
) -> dict[str, Any]:
    """Return the fields of ComfyUI's ``NodeReplace``.

    Args:
        old: id of the other node.
        widgets: its first widgets in their order, as many as are needed to find those that are carried over.
        carried: our input → its input.
        outputs: (ours, its) for every output that has a counterpart.
    """
    values = {
        given.id: given.default for given in HypirRestoreImage.GET_SCHEMA().inputs if needs_a_value(given)
    }
    values["size_rule"] = SizeRule.scale.value  # the other nodes know a factor only
    return {
        "new_node_id": "HypirRestoreImage",
        "old_node_id": old,
        "old_widget_ids": list(widgets),
        "input_mapping": [
            *({"new_id": new, "old_id": name} for new, name in carried.items()),
            *({"new_id": new, "set_value": value} for new, value in values.items() if new not in carried),
        ],
        "output_mapping": [{"new_idx": new, "old_idx": index} for new, index in outputs],
    }


def needs_a_value(given: Any) -> bool:
    """Return whether an input is a widget without which a prompt is refused."""
    return getattr(given, "default", None) is not None and not given.optional


REPLACEMENTS: list[dict[str, Any]] = [
    replacement(
        "HYPIRAdvancedRestoration",
        widgets=("prompt", "upscale_factor", "seed"),
        carried={"image": "image", "prompt": "prompt", "scale": "upscale_factor"},
        outputs=((0, 0), (1, 1)),
    ),
    replacement(
        "hyper_comfyui_hypir_restore",
        widgets=("prompt", "base_model_path", "weight_name", "upscale"),
        carried={"image": "image", "prompt": "prompt", "scale": "upscale"},
        outputs=((0, 0),),
    ),
]
