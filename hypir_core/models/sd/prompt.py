"""From a prompt to what the UNet's cross-attention reads; the empty prompt needs no vocabulary."""

from __future__ import annotations

import gzip
import json
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import MissingDependencyError, WeightsNotFoundError

LENGTH = 77
"""Tokens a CLIP text tower takes, the start and end marks included."""

PAD = 0
"""Stable Diffusion 2 fills up with token 0, "!"; version 1 used the end mark."""

BPE_RANKS = 49152 - 256 - 2
"""Merges of CLIP's vocabulary (Radford et al., arXiv 2103.00020, section 2.4: 49 152 entries)."""

_OPEN_CLIP_MERGES = "bpe_simple_vocab_16e6.txt.gz"


@dataclass(frozen=True, slots=True, eq=False)
class PromptTokens:
    """One prompt as token numbers."""

    ids: Tensor
    """[1 77], int64."""
    dropped: int
    """Tokens at the end that did not fit."""


def tokenize(prompt: str, tokenizer: Any | None, *, vocabulary: int) -> PromptTokens:
    """Turn a prompt into 77 token numbers: start mark, text, end mark, padding.

    Args:
        prompt: any text; longer than 75 tokens is cut, and `dropped` says by how much.
        tokenizer: `find_tokenizer`'s result; only the empty prompt can do without.
        vocabulary: size of the text encoder's vocabulary; its last two entries are the start and end marks.

    Raises:
        WeightsNotFoundError: a prompt that is not empty, and no tokenizer.
    """
    start, end = vocabulary - 2, vocabulary - 1
    text = _numbers(prompt, tokenizer)
    kept = text[: LENGTH - 2]
    ids = [start, *kept, end]
    ids += [PAD] * (LENGTH - len(ids))
    return PromptTokens(torch.tensor([ids]), len(text) - len(kept))


def count_tokens(prompt: str, tokenizer: Any | None) -> int:
    """Return how many tokens a prompt has, without marks; arguments and errors as `tokenize`."""
    return len(_numbers(prompt, tokenizer))


def _numbers(prompt: str, tokenizer: Any | None) -> list[int]:
    if not prompt.strip():
        return []
    if tokenizer is None:
        raise WeightsNotFoundError(
            "a prompt needs CLIP's vocabulary (vocab.json and merges.txt), which this packaging of the "
            "base model does not bring; put its folder 'tokenizer' next to the file, run "
            "pip install open_clip_torch, or leave the prompt empty"
        )
    return [int(i) for i in tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids]


def truncation_note(tokens: PromptTokens) -> tuple[str, ...]:
    """Return one sentence if a prompt was cut, else nothing."""
    if not tokens.dropped:
        return ()
    return (f"the prompt is longer than {LENGTH - 2} tokens: its last {tokens.dropped} tokens were not used",)


@torch.no_grad()
def encode_prompt(text_encoder: nn.Module, ids: Tensor) -> Tensor:
    """Return the text tower's last hidden state, after its final layer norm: [1 77] → [1 77 width].

    No attention mask, as Stable Diffusion was trained. Runs where and in the format the text encoder lies.
    """
    device = next(text_encoder.parameters()).device
    return text_encoder(ids.to(device)).last_hidden_state


def find_tokenizer(given: Path | None, *, beside: Path | None) -> Any | None:
    """Find CLIP's tokenizer on this machine; None where there is none.

    Args:
        given: a folder with ``vocab.json`` and ``merges.txt`` that the base model brings.
        beside: the base model's file; a folder ``tokenizer`` next to it is tried.

    The next places are ComfyUI's own copy (where ``comfy`` can be found) and the merges that open_clip ships;
    neither package is imported. All hold the same vocabulary.

    Raises:
        MissingDependencyError: transformers is not installed.
    """
    folders = [given, beside.parent / "tokenizer" if beside else None]
    folders += [package / "sd1_tokenizer" for package in _package_folders("comfy")]
    for folder in folders:
        if folder is not None and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return _tokenizer_in(folder)
    for package in _package_folders("open_clip"):
        if (package / _OPEN_CLIP_MERGES).is_file():
            return _tokenizer_from_merges(package / _OPEN_CLIP_MERGES)
    return None


def _package_folders(name: str) -> list[Path]:
    spec = find_spec(name)
    return [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or ()]


def _tokenizer_in(folder: Path) -> Any:
    try:
        from transformers import CLIPTokenizer
    except ImportError as err:
        raise MissingDependencyError("transformers", "diffusion", "reading a prompt") from err
    # Version 2 pads with "!", which also makes it a mark of its own in a prompt: the same from every source.
    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True, pad_token="!")  # noqa: S106


def _tokenizer_from_merges(path: Path) -> Any:
    """Make the tokenizer from the merges alone: the vocabulary is the bytes, then the merges in order."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : BPE_RANKS + 1]
    letters = _byte_letters()
    entries = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in merges),
    ]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "vocab.json").write_text(
            json.dumps({e: i for i, e in enumerate(entries)}), encoding="utf-8"
        )
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
        marks = {"bos_token": entries[-2], "eos_token": entries[-1], "unk_token": entries[-1]}
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, **marks}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return _tokenizer_in(folder)


def _byte_letters() -> list[str]:
    """Return the printable letter that stands for each byte, in the order of CLIP's vocabulary.

    Bytes that print stand for themselves and come first; the others follow as the letters from U+0100 on
    (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.2).
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(printing)
    return [*map(chr, printing), *(chr(0x100 + i) for i in range(others))]
