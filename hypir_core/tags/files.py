"""From RAM's file and SeeSR's LoRA for it to the tensors of one tagger.

The published file holds 5.6 GB; a tagger is 366 tensors of it. The file is mapped into memory, so that only what is
wanted is ever read from the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..errors import SpecMismatchError, WeightsError
from ..models.tagger.ram import Ram, RamSizes, ram_sizes
from ..weights.fingerprint import fingerprint
from ..weights.spec import METADATA_KEY, TaggerSpec, spec_from_metadata
from ..weights.tensors import listed, read_tensors
from .lora import TaggerLora, read_tagger_lora

WANTED = "RAM's weights (ram_swin_large_14m.pth, or what `hypir convert --to tagger` made of it)"

LICENCE = "Apache-2.0"
"""Of RAM and of SeeSR's LoRA for it."""

_OLD_HEAD = "vision_multi."
"""What older checkpoints call the tag head."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TaggerFile:
    """A tagger on the disk: its tensors are read when they are asked for."""

    path: Path
    sizes: RamSizes
    label: str
    """Names the file and its LoRA and tells them apart by content."""
    spec: TaggerSpec
    lora: TaggerLora | None = None
    """What is added to the numbers of the file."""
    _tensors: Mapping[str, Tensor] = field(repr=False)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors under the checkpoint's names, with the LoRA added in float32 where it has a part.

        What it has no part in comes as it lies in the file, memory-mapped.
        """
        for name, tensor in self._tensors.items():
            delta = None if self.lora is None else self.lora.delta(name)
            yield name, tensor if delta is None else tensor.float() + delta


def read_tagger(path: Path, lora: Path | None = None, *, strength: float = 1.0) -> TaggerFile:
    """Open a tagger's file, and look at its names and sizes only.

    Args:
        path: RAM's published file, or a converted one.
        lora: SeeSR's LoRA for it (DAPE).
        strength: how much of the LoRA is added; 1 is as trained.

    Raises:
        WeightsNotFoundError: a file is not there.
        WeightsError: a file cannot be read, or is something else; says what.
        SpecMismatchError: the two do not fit, or a LoRA is merged already.
    """
    file = read_tensors(path)
    tensors = {_name(name): tensor for name, tensor in file.tensors.items()}
    sizes = _sizes(tensors, path)
    spec = _spec(file.metadata, path)
    wanted = _wanted(tensors, sizes, path)
    label = f"{path.name} {fingerprint(path)}"
    if lora is None:
        return TaggerFile(path=path, sizes=sizes, label=label, spec=spec, _tensors=wanted)
    if spec.lora is not None:
        raise SpecMismatchError(
            f"{path}: {spec.lora} is merged into this tagger already; leave out {lora.name}, or give RAM's own file"
        )
    added = read_tagger_lora(lora, wanted, strength=strength)
    name = f"{lora.name} {fingerprint(lora)}"
    return TaggerFile(
        path=path,
        sizes=sizes,
        label=f"{label} with {name}" + ("" if strength == 1 else f" × {strength:g}"),
        spec=TaggerSpec(lora=name, lora_strength=strength, licence=spec.licence),
        lora=added,
        _tensors=wanted,
    )


def load_ram(file: TaggerFile, dtype: torch.dtype) -> Ram:
    """Build the network on the CPU, frozen.

    Raises:
        WeightsError: numbers are not finite.
    """
    with torch.device("meta"):
        net = Ram(file.sizes)
    tensors = {name: tensor.to(dtype) for name, tensor in file.tensors()}
    net.load_state_dict(tensors, assign=True)
    return net.eval().requires_grad_(False)


def _name(name: str) -> str:
    return f"tagging_head.{name.removeprefix(_OLD_HEAD)}" if name.startswith(_OLD_HEAD) else name


def _sizes(tensors: Mapping[str, Tensor], path: Path) -> RamSizes:
    if "reweight_scale" in tensors:
        raise _another(path, "RAM++ (ram_plus_swin_large_14m.pth), whose labels are descriptions")
    if "label_embed.weight" in tensors:
        raise _another(path, "Tag2Text, whose labels are others")
    if any(name.endswith(".lora_A") for name in tensors):
        raise _another(path, "a LoRA for the tagger (DAPE); give it beside RAM's file, as the tagger's LoRA")
    try:
        return ram_sizes(tensors)
    except (KeyError, IndexError, ValueError) as err:
        raise _another(path, f"{listed(list(tensors))} other tensors") from err


def _another(path: Path, what: str) -> WeightsError:
    return WeightsError(f"{path}: expected {WANTED}, got {what}")


def _wanted(tensors: Mapping[str, Tensor], sizes: RamSizes, path: Path) -> dict[str, Tensor]:
    """Return the tensors that the network has, in its order; check that all are there and fit."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Ram(sizes).state_dict().items()}
    missing = [name for name in shapes if name not in tensors]
    if missing:
        raise WeightsError(f"{path}: expected {WANTED}, which lacks {listed(missing)}; get it again")
    wrong = [name for name, shape in shapes.items() if tensors[name].shape != shape]
    if wrong:
        raise SpecMismatchError(
            f"{path}: expected {WANTED}; {len(wrong)} tensors have another shape, the first is {wrong[0]}: expected "
            f"{tuple(shapes[wrong[0]])}, got {tuple(tensors[wrong[0]].shape)}"
        )
    return {name: tensors[name] for name in shapes}


def _spec(metadata: Mapping[str, str], path: Path) -> TaggerSpec:
    if METADATA_KEY not in metadata:
        return TaggerSpec(licence=LICENCE)
    spec = spec_from_metadata(metadata, path)
    if not isinstance(spec, TaggerSpec):
        raise _another(path, f"a {spec.kind} by its own {METADATA_KEY}")
    return spec
