"""How data.root is read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

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
    path_prefix: Path | None = None
    """List: folder that relative paths start from; None = the folder of the list."""

    def kind_of(self, root: Path) -> SourceKind:
        """Return the kind that is stated, or that `root` looks like."""
        if self.kind is not SourceKind.auto:
            return self.kind
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
            "lq_root": (SourceKind.folder,),
            "lq_column": (SourceKind.list,),
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

    @property
    def paired(self) -> bool:
        """Whether low-quality partners are given."""
        return self.lq_root is not None or self.lq_column is not None
