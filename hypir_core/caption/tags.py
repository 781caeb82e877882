"""Words from a tagger: the names of the things in a picture, the surest first."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..device import pick_device
from ..errors import Cancelled
from ..progress import ShouldStop, never
from ..tags.find import find_tagger
from ..tags.tagger import Tagger
from ..weights.download.fetching import download_said
from .base import Captioner

if TYPE_CHECKING:
    from .catalog import TagsOptions

log = logging.getLogger(__name__)

AUTO, OFF = "auto", "off"
"""What `lora` may be besides a file."""

_CAPTION = "hypir caption photo.jpg --captioner tags"
COMMANDS = (f"{_CAPTION} --option download=true", f"{_CAPTION} --option file=ram_swin_large_14m.pth")
LORA_COMMANDS = (COMMANDS[0], f"{_CAPTION} --option lora=DAPE.pth")


class TagsCaptioner(Captioner):
    """Holds a tagger from the first call until `unload`."""

    def __init__(self, options: TagsOptions):
        self._options = options
        self._device = pick_device(options.device)
        self._tagger: Tagger | None = None

    def __call__(
        self, image_01: Tensor, *, source: Path | None = None, should_stop: ShouldStop = never
    ) -> str:
        """Return the tags with commas between them; there may be none.

        Raises:
            Cancelled: `should_stop` said yes; asked once, after the files were found.
            WeightsNotFoundError: the tagger is not on this machine.
            WeightsError: a file cannot be used.
            OutOfMemoryError: there is no room for the network.
        """
        if self._tagger is None:
            self._tagger = self._opened()
        if should_stop():
            raise Cancelled("stopped before the picture was tagged")
        return ", ".join(tag.name for tag in self._tagger.look(image_01).tags)

    def unload(self) -> None:
        """Drop the network and give its memory back to the device."""
        if self._tagger is not None:
            self._tagger.unload()

    def _opened(self) -> Tagger:
        options = self._options
        found = find_tagger(
            options.file,
            None if options.lora in {AUTO, OFF} else options.lora,
            want_lora=options.lora != OFF,
            tag_list=options.tag_list,
            threshold=options.threshold,
            max_tags=options.max_tags,
            device=self._device,
            dtype=options.dtype,
            fetch=download_said if options.download else None,
            commands=COMMANDS,
            lora_commands=LORA_COMMANDS,
        )
        for note in found.notes:
            log.warning(note)
        return found.tagger
