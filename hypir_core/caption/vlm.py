"""Words from a transformers model on this machine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ..device import pick_device, pick_dtype, release_cached_memory
from ..errors import Cancelled, CaptionError, OutOfMemoryError
from ..progress import ShouldStop, never
from ..tiling.memory import is_out_of_memory
from .base import INSTRUCTION, Captioner, one_line
from .picture import small_picture
from .vlm_files import Vlm, load_vlm

if TYPE_CHECKING:
    from .catalog import VlmOptions

log = logging.getLogger(__name__)

_TESTED = ("float32", "bfloat16")


class VlmCaptioner(Captioner):
    """Holds a model from the first call until `unload`."""

    def __init__(self, options: VlmOptions):
        self._options = options
        self._device = pick_device(options.device)
        self._dtype = pick_dtype(options.dtype, self._device, _TESTED)
        self._vlm: Vlm | None = None

    def __call__(
        self, image_01: Tensor, *, source: Path | None = None, should_stop: ShouldStop = never
    ) -> str:
        """Return the model's most likely words (no sampling: the same picture, the same caption).

        Raises:
            Cancelled: `should_stop` said yes; asked once, after loading.
            CaptionError: the model is not there, cannot be loaded or prompted, or says nothing.
            MissingDependencyError: transformers is not installed.
            OutOfMemoryError: the device is too small for the model.
        """
        options = self._options
        picture = small_picture(image_01, longest_side_px=options.longest_side_px)
        try:
            if self._vlm is None:
                self._vlm = load_vlm(
                    options.model, download=options.download, device=self._device, dtype=self._dtype
                )
            if should_stop():
                raise Cancelled("stopped before the caption was made")
            inputs = self._prepared(self._vlm, picture).to(self._device, self._dtype)
            words = self._generated(self._vlm, inputs)
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            raise OutOfMemoryError(
                f"{options.model}: memory ran out on {self._device}; use a smaller model, a smaller "
                "longest_side_px, or device=cpu"
            ) from err
        if not words:
            raise CaptionError(f"{options.model}: the model said nothing about this picture; try another")
        return words

    def unload(self) -> None:
        """Drop the model and give its memory back to the device."""
        self._vlm = None
        release_cached_memory(self._device)

    def _prepared(self, vlm: Vlm, picture: Image.Image) -> Any:
        """Return the model's input: pixels, and the question in the model's own form."""
        text, own = self._options.instruction, {}
        if getattr(vlm.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": text or INSTRUCTION}]
            text = vlm.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            start = vlm.processor.tokenizer.bos_token
            if start and text.startswith(start):  # else the tokenizer would add a second one
                own["add_special_tokens"] = False
        if text:
            own["text"] = [text]
        try:
            return vlm.processor(images=[picture], return_tensors="pt", **own)
        except (ValueError, TypeError) as err:
            raise CaptionError(
                f"{self._options.model}: the model cannot use the instruction {text!r} ({err}); set another "
                "with --option instruction=…"
            ) from err

    @torch.inference_mode()
    def _generated(self, vlm: Vlm, inputs: Any) -> str:
        most = self._options.max_new_tokens
        tokens = vlm.model.generate(**inputs, max_new_tokens=most, do_sample=False)[0]
        question = inputs.get("input_ids")
        if question is not None and torch.equal(tokens[: question.shape[1]], question[0]):
            tokens = tokens[question.shape[1] :]  # decoder-only models repeat the question
        if len(tokens) >= most and int(tokens[-1]) not in _end_marks(vlm):
            log.warning("%s: the caption was cut off at max_new_tokens=%d", self._options.model, most)
        return one_line(vlm.processor.tokenizer.decode(tokens, skip_special_tokens=True))


def _end_marks(vlm: Vlm) -> set[int | None]:
    """Return the tokens after which the model has no more to say: one, several or none are configured."""
    configured = vlm.model.generation_config.eos_token_id
    several = configured if isinstance(configured, (list, tuple)) else [configured]
    return {*several, vlm.processor.tokenizer.eos_token_id}
