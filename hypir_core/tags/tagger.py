"""A picture in, what is in it out."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..device import pick_dtype, release_cached_memory
from ..errors import ConfigError, OutOfMemoryError, RangeError, ShapeError, SpecMismatchError, WeightsError
from ..models.tagger.ram import Ram, prepare
from ..request import Tag
from ..residency import send_home
from ..tiling.memory import is_out_of_memory
from .files import LICENCE, TaggerFile, load_ram
from .names import NEVER, TagList, ram_tags

log = logging.getLogger(__name__)

REMEMBERED = 4
"""How many pictures' answers are kept, 0.3 MB each."""

MAX_TAGS = 20

TESTED_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a tagger saw in one picture."""

    tags: tuple[Tag, ...]
    """The surest first; in reference mode all, in the order of the tagger's list."""
    tokens: Tensor
    """[1 145 512], float32, on the CPU: one token for the whole picture, then one for each of 12×12 places."""


class Tagger:
    """RAM, with SeeSR's LoRA or without; the network is in memory from the first picture until `unload`."""

    def __init__(
        self,
        file: TaggerFile,
        *,
        names: TagList | None = None,
        threshold: float | None = None,
        max_tags: int = MAX_TAGS,
        device: torch.device | None = None,
        dtype: str = "auto",
        place: Callable[[nn.Module], None] | None = None,
    ):
        """Check that everything fits; nothing is loaded.

        Args:
            file: from `read_tagger`.
            names: of the labels; None: RAM's 4585.
            threshold: 0 to 1, for all tags instead of each one's own; tags that are never chosen stay so.
            max_tags: how many of the surest are kept.
            device: where it looks; None: the CPU.
            dtype: number format of the network.
            place: brings the network to the device where that is somebody else's to do; None moves it.

        Raises:
            ConfigError: a number is out of its range.
            SpecMismatchError: there are more or fewer names than labels.
        """
        self.file, self.names = file, names or ram_tags()
        problems = []
        if threshold is not None and not 0 <= threshold <= 1:
            problems.append(f"threshold must be from 0 to 1, got {threshold:g}")
        if max_tags < 0:
            problems.append(f"max_tags must be 0 or more, got {max_tags}")
        if problems:
            raise ConfigError(problems)
        if len(self.names.names) != file.sizes.labels:
            raise SpecMismatchError(
                f"{file.path}: expected a tagger of {len(self.names.names)} labels, as {self.names.found_in} has names, "
                f"got {file.sizes.labels}; give the list that belongs to it (tag_list)"
            )
        own = torch.tensor(self.names.thresholds)
        self._thresholds = own if threshold is None else torch.full_like(own, threshold)
        self._never = own >= NEVER
        self._max_tags = max_tags
        self._device = device or torch.device("cpu")
        self._dtype = pick_dtype(dtype, self._device, TESTED_DTYPES)
        self._place = place
        self._net: Ram | None = None
        self._remembered: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    @property
    def label(self) -> str:
        """Return what names the weights in reports and tells them apart by content."""
        return self.file.label

    @property
    def licence(self) -> str:
        """Return the licence of the weights."""
        return LICENCE

    @property
    def loaded(self) -> bool:
        """Return whether the network is in memory."""
        return self._net is not None

    def look(self, image_01: Tensor, *, reference: bool = False) -> Seen:
        """Say what is in a picture; the same picture is looked at once.

        Args:
            image_01: [1 c h w] in [0,1] (clamped), any device and float format; c is 1 (grey), 3 (RGB) or 4 (alpha,
                not looked at).
            reference: as the original does: resized without averaging; all tags, in the order of the list.

        Raises:
            ShapeError: not one picture of that shape.
            RangeError: a number of it is NaN or infinite.
            WeightsError: the network's answer is not finite: the file is damaged.
            OutOfMemoryError: there is no room for the network, not even on the CPU.
        """
        prepared = prepare(_rgb(image_01).cpu(), self.side_px, antialias=not reference)
        if not prepared.isfinite().all():
            raise RangeError("the tagger: expected finite numbers in the picture, got NaN or infinity")
        tokens, probabilities = self._looked_at(prepared)
        return Seen(tags=self._tags(probabilities, reference=reference), tokens=tokens)

    def unload(self) -> None:
        """Give the network's memory back; the next new picture takes it again. Answers are kept."""
        self._net = None
        release_cached_memory(self._device)

    def leave(self) -> None:
        """Send the network home, unless moving it is somebody else's to do; the next new picture brings it again."""
        if self._net is not None and self._place is None:
            send_home(self._net)

    @property
    def side_px(self) -> int:
        """Return the side of the square that pictures are resized to."""
        sizes = self.file.sizes
        return 4 * sizes.window * 2 ** (len(sizes.depths) - 1)

    def _looked_at(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Return (tokens, probability of each label), remembered by the picture's content."""
        key = hashlib.sha256(prepared.cpu().contiguous().numpy().data).hexdigest()
        if key not in self._remembered:
            self._remembered[key] = self._answer(prepared)
        self._remembered.move_to_end(key)
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return self._remembered[key]

    def _answer(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        try:
            tokens, logits = self._run(prepared)
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            if self._device.type == "cpu" or self._place is not None:
                raise OutOfMemoryError(
                    f"{self.file.path.name}: no room for the tagger; use tagger=off"
                ) from err
            log.warning("the tagger does not fit on %s and looks on the CPU", self._device)
            self._net = None
            release_cached_memory(self._device)
            self._device, self._dtype = torch.device("cpu"), torch.float32
            tokens, logits = self._run(prepared)
        if not logits.isfinite().all() and self._dtype is not torch.float32:
            log.warning("the tagger left the range of %s and looks in float32", self._dtype)
            self._net, self._dtype = None, torch.float32
            tokens, logits = self._run(prepared)
        if not (logits.isfinite().all() and tokens.isfinite().all()):
            raise WeightsError(
                f"{self.file.path}: the tagger's answer is NaN or infinite; get the file again"
            )
        return tokens, logits.sigmoid()[0]

    @torch.no_grad()
    def _run(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        if self._net is None:
            self._net = load_ram(self.file, self._dtype)
        if self._place is None:
            self._net.to(self._device)
        else:
            self._place(self._net)
        tokens, logits = self._net(prepared.to(self._device, self._dtype))
        return tokens.float().cpu(), logits.float().cpu()

    def _tags(self, probabilities: Tensor, *, reference: bool) -> tuple[Tag, ...]:
        chosen = ((probabilities > self._thresholds) & ~self._never).nonzero().flatten().tolist()
        tags = [Tag(name=self.names.names[i], probability=float(probabilities[i])) for i in chosen]
        if reference:
            return tuple(tags)
        return tuple(sorted(tags, key=lambda tag: -tag.probability)[: self._max_tags])


def _rgb(image_01: Tensor) -> Tensor:
    if (
        image_01.ndim != 4
        or image_01.shape[0] != 1
        or image_01.shape[1] not in {1, 3, 4}
        or not image_01.numel()
    ):
        raise ShapeError(f"the tagger: expected one picture [1 1|3|4 h w], got {list(image_01.shape)}")
    return image_01[:, :3].float().clamp(0, 1).expand(-1, 3, -1, -1)
