"""How data.root is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hypir_core.config import strict

from .checks import raise_all

LIST_ENDINGS = (".parquet", ".csv", ".jsonl", ".json", ".txt", ".list")
SHARD_ENDING = ".tar"


class SourceKind(str, Enum):
    """What lies at data.root."""

    auto = "auto"
    """a list if it ends in .parquet, .csv, .jsonl, .json, .txt or .list; shards if it ends in .tar; else a folder"""
    folder = "folder"
    list = "list"
    shards = "shards"
    scenes = "scenes"
    """rasters, volumes and stacks, of any bands and axes, which are read in tiles: a file, or a folder of such"""
    custom = "custom"
    """a data set of one's own, see `dataset`"""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How data.root is read."""

    __pydantic_config__ = strict

    kind: SourceKind = SourceKind.auto
    check: bool = True
    """Read every picture's header at the start; false finds unusable ones on the way, for very large sets."""
    lq_root: Path | None = None
    """Folder: another folder with the low-quality partners, of the same relative names."""
    path_column: str = "path"
    """List: column with the paths."""
    lq_column: str | None = None
    """List: column with the paths of the low-quality partners; None degrades the pictures instead."""
    prompt_column: str | None = None
    """List: column with the prompts; shards: key of the prompt in the .json members. None = no such prompts."""
    weight_column: str | None = None
    """List: column with how often a picture is drawn, relative to the others (0: never); None: all alike."""
    tile_px: int | tuple[int, ...] | None = None
    """Scenes: side of the tiles that are read, or one for every axis; crops are taken from them. None: crop_px."""
    stride_px: int | tuple[int, ...] | None = None
    """Scenes: from one tile to the next; None: as far as a tile is long."""
    bands: tuple[str, ...] = ()
    """Scenes: which bands, by name or by number from 1 on, in this order; all without."""
    axes: str = ""
    """Scenes: letters for the axes of the files' arrays (ZYX, CYX …), where they do not say them."""
    array: str = ""
    """Scenes: which array of a file that holds several."""
    least_valid: float = 0.5
    """Scenes: a tile with a smaller share of data is left out."""
    dataset: str | None = None
    """Custom: a name in `train.data.DATASETS`, or a Python path ``package.module:name``."""
    options: dict[str, Any] = field(default_factory=dict)
    """Custom: keyword arguments of the data set, next to its root."""
    path_prefix: Path | None = None
    """List: folder that relative paths start from; None = the folder of the list."""

    def kind_of(self, root: Path) -> SourceKind:
        """Return the kind that is stated, or that `root` looks like."""
        if self.kind is not SourceKind.auto:
            return self.kind
        if self.dataset is not None:
            return SourceKind.custom
        ending = root.suffix.lower()
        if ending in LIST_ENDINGS and not root.is_dir():
            return SourceKind.list
        return SourceKind.shards if ending == SHARD_ENDING else SourceKind.folder

    def check_for(self, root: Path, *, where: str = "") -> None:
        """Refuse settings that the kind of `root` would not use; `where` is what stands before ``source``.

        Raises:
            ConfigError: lists each of them.
        """
        kind = self.kind_of(root)
        users = {
            "lq_root": (SourceKind.folder, SourceKind.scenes),
            "dataset": (SourceKind.custom,),
            "tile_px": (SourceKind.scenes,),
            "stride_px": (SourceKind.scenes,),
            "lq_column": (SourceKind.list,),
            "weight_column": (SourceKind.list,),
            "path_prefix": (SourceKind.list,),
            "prompt_column": (SourceKind.list, SourceKind.shards),
        }
        raise_all(
            [
                f"{where}source.{name} is not used by a {kind.value}; it belongs to: {', '.join(k.value for k in kinds)}"
                for name, kinds in users.items()
                if getattr(self, name) is not None and kind not in kinds
            ]
        )

    def bounded_at(self, root: Path) -> bool:
        """Say whether values lie in [0,1], as those of pictures do."""
        return self.kind_of(root) not in {SourceKind.scenes, SourceKind.custom}

    @property
    def may_be_paired(self) -> bool:
        """Whether partners are given, or a data set of one's own may bring them."""
        return self.paired or self.dataset is not None

    @property
    def paired(self) -> bool:
        """Whether low-quality partners are given, as far as the settings say; a data set of one's own knows itself."""
        return self.lq_root is not None or self.lq_column is not None
