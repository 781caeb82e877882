"""One run over many machines: each restores its shard, and writes down what it did in a manifest of its own."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError

MANIFEST = "hypir-manifest.jsonl"
"""Name of the manifest in an output folder."""

_MANIFESTS = re.compile(r"hypir-manifest(\.\d+-of-\d+)?(\.[0-9a-f]{12}-\d+)?\.jsonl")
"""Of a whole run, of a shard, or a part of one of them: a store under a URL takes no lines, only whole files."""

SCHEDULERS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", ""),
)
"""Variables of job arrays: this task's number, how many there are, the lowest number (0 where there is none).
Kubernetes sets the first of an indexed Job; the manifest of the Job has to pass the second on."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a run's pictures. Which one a picture is in depends on its place in the output folder alone."""

    index: int = 0
    """From 0."""
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise ConfigError(
                f"--shard: expected I/N with I from 0 to N − 1, got {self.index}/{self.count}; shards count from 0"
            )

    def holds(self, place: str) -> bool:
        """Say whether a picture belongs to it, by where its result goes below the output folder."""
        if self.count == 1:
            return True
        name = place.replace("\\", "/").encode("utf-8", "surrogatepass")
        return zlib.crc32(name) % self.count == self.index

    @property
    def manifest(self) -> str:
        """Name of its manifest in the output folder."""
        return MANIFEST if self.count == 1 else f"hypir-manifest.{self.index}-of-{self.count}.jsonl"


WHOLE = Shard()
"""All pictures."""


def shard_of(text: str | None, variables: Mapping[str, str]) -> Shard:
    """Return the shard that is asked for.

    Args:
        text: ``I/N``; ``auto`` takes it from the scheduler's variables; None is all pictures.
        variables: of the environment.

    Raises:
        ConfigError: it is none of these, out of range, or there is no scheduler that says.
    """
    if text is None:
        return WHOLE
    if text != "auto":
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not found:
            raise ConfigError(f"--shard: expected I/N, as 0/4, or auto, got {text!r}")
        return Shard(int(found[1]), int(found[2]))
    for index, count, lowest in SCHEDULERS:
        if index in variables:
            if count not in variables:
                raise ConfigError(
                    f"--shard auto: {index} is set but {count} is not, so how many shards there are is unknown; "
                    f"set {count}, or say --shard I/N"
                )
            try:
                first = int(variables.get(lowest, "0") or 0)
                return Shard(int(variables[index]) - first, int(variables[count]))
            except ValueError as err:
                raise ConfigError(
                    f"--shard auto: expected whole numbers in {index} and {count}: {err}"
                ) from err
    names = " or ".join(f"{index} with {count}" for index, count, _ in SCHEDULERS)
    raise ConfigError(f"--shard auto: expected {names} in the environment, found neither; say --shard I/N")


def is_manifest_name(name: str) -> bool:
    """Say whether a file is called as a manifest, of a whole run or of a shard."""
    return _MANIFESTS.fullmatch(name) is not None


def manifests_in(folder: Path) -> list[Path]:
    """Return the manifests in a folder, sorted by name; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_manifest_name(path.name))
