"""Models as transformers itself builds them, whichever version is installed."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel


def read_text_encoder(folder: Path) -> CLIPTextModel:
    """Build a text tower from `folder`.

    Not with `from_pretrained`: the golden file was written by transformers 5, whose names lack the
    ``text_model.`` that older ones expect; they would fill the tower with random numbers.
    """
    model = CLIPTextModel(CLIPTextConfig.from_pretrained(folder))
    own = model.state_dict().keys()
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict(
        {name if name in own else f"text_model.{name}": tensor for name, tensor in tensors.items()}
    )
    return model
