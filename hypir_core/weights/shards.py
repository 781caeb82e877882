"""A network in several files: the index that says which file holds which tensor."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import WeightsError, WeightsNotFoundError


def shards_of(index: Path) -> dict[Path, list[str]]:
    """Read an index (``diffusion_pytorch_model.safetensors.index.json``): file → names of its tensors.

    The files lie beside the index and are in the order of their names.

    Raises:
        WeightsNotFoundError: the index or a file that it names is not there.
        WeightsError: it is no such index, or names a file in another folder.
    """
    try:
        data = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise WeightsNotFoundError(f"{index}: no such file; check the path") from err
    except (OSError, ValueError) as err:
        raise WeightsError(f"{index}: cannot be read as JSON ({err}); get the file again") from err
    names = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(n, str) for n in names.values()):
        raise WeightsError(
            f"{index}: expected the index of a network in several files, with a weight_map from tensors to files; "
            "get the file again"
        )
    outside = sorted(name for name in set(names.values()) if Path(name).name != name or name in {".", ".."})
    if outside:
        raise WeightsError(f"{index}: expected files beside it, got {outside[0]!r}; get the file again")
    shards: dict[Path, list[str]] = {index.with_name(name): [] for name in sorted(set(names.values()))}
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise WeightsNotFoundError(
            f"{index}: names {len(shards)} files, {len(missing)} of them are not there, the first is {missing[0]}; "
            "get the rest of the model"
        )
    for tensor, name in names.items():
        shards[index.with_name(name)].append(tensor)
    return shards
