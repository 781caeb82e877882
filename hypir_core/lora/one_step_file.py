"""Restorers of the one-step family, read in their authors' layouts into what is merged into a base model.

A file is recognised by its entries, never by its name. A part that is missing or does not fit is an error: no restorer
is loaded by half. Pickles are read as plain tensors; nothing in them is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import SpecMismatchError, WeightsError
from ..weights.base_names import vae_tensors
from ..weights.file_names import network_files
from ..weights.fingerprint import fingerprint, short_hash
from ..weights.ldm_names import unet_names
from ..weights.spec import LoraSpec
from ..weights.tensors import WRAPPERS, check_finite, listed, read_checkpoint, read_tensors
from .adapter_config import adapter_beside
from .file import Lora, check_lora, lora_from_tensors, lora_of_file, read_lora
from .mixing import Mixing, read_mixing
from .names import LoraForm, WeightShape
from .recipe import Adapters, Layout, OneStepRecipe, recipe, recipe_of, recipes
from .vae_part import split_vae, vae_lora

Modules = Mapping[str, WeightShape]
"""Name → weight shape of the Linear and Conv2d modules of a network (`names.adaptable_modules`)."""

STATE = "state_dict_unet"
"""The entry that all nested files have."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OneStepFile:
    """A restorer, and the recipe to run it by."""

    recipe: OneStepRecipe
    unet: Mapping[str, Lora] = field(default_factory=dict)
    """Slider → LoRA of the UNet, in the recipe's order."""
    vae: Lora | None = None
    unet_whole: Mapping[str, Tensor] = field(default_factory=dict)
    """Weights that stand in for the UNet's own, by their diffusers names; LoRAs are added to them."""
    vae_whole: Mapping[str, Tensor] = field(default_factory=dict)
    label: str
    """Name and hash."""
    mixing: Mapping[str, Mixing] = field(default_factory=dict)
    """``unet`` and ``vae`` → what mixes their LoRAs anew for every picture; empty: they are merged once."""
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> LoraSpec:
        """Return what is written beside weights that it was merged into."""
        for lora in self.unet.values():
            return lora.spec or LoraSpec(rank=lora.rank, alpha=lora.alpha)
        return self.recipe.spec(rank=1, alpha=1.0, targets=("conv_in",))


def read_one_step(path: Path, unet: Modules, vae: Modules | None, *, named: str | None = None) -> OneStepFile:
    """Read a restorer of any known family.

    Args:
        path: a file, or a folder of adapters or of whole networks.
        unet: modules of the base model's UNet.
        vae: modules of its VAE; None: adapters of a VAE are read and not checked against one.
        named: the recipe that a person names; None recognises it by what the file holds.

    Raises:
        UnknownNameError: there is no such recipe.
        SpecMismatchError: the file does not fit the base model or the recipe, or is of an unknown family: says what was
            found, and which recipe is nearest.
        WeightsError: it cannot be read.
    """
    wanted = None if named is None else recipe(named)
    path = _outer_folder(path)
    if path.is_dir():
        found = _read_folder(path, unet, vae, wanted)
    else:
        content = read_checkpoint(path)
        nested = is_nested(content)
        found = (
            _read_nested(path, content, unet, vae, wanted) if nested else _read_plain(path, unet, vae, wanted)
        )
    return found


def _outer_folder(path: Path) -> Path:
    """Return the folder of a restorer whose adapter, or the file of it, is named."""
    known = {part.folder for each in recipes() for part in (*each.unet.values(), *each.vae)} - {""}
    for inner in (path, path.parent):
        if inner.name in known:
            return inner.parent
    return path


def _read_plain(path: Path, unet: Modules, vae: Modules | None, wanted: OneStepRecipe | None) -> OneStepFile:
    file = read_tensors(path)
    of_unet, of_vae = split_vae(file.tensors)
    lora = lora_of_file(replace(file, tensors=of_unet), unet)
    found = replace(recipe_of(lora.spec, path), layout=Layout.plain)
    if wanted is not None and wanted.name != found.name:
        if lora.spec is not None or wanted.layout is not Layout.plain:
            raise SpecMismatchError(
                f"{path}: expected a file of {wanted.title} ({wanted.layout.value}), got a LoRA of {found.title}; "
                "leave the recipe out, or name its own"
            )
        found = wanted
    # The published file names its modules so, and was trained with alpha = rank: nothing is assumed of it.
    notes = () if lora.form is LoraForm.original and lora.spec is None else lora.notes
    return OneStepFile(
        recipe=found,
        unet={"all": lora},
        vae=vae_lora(of_vae, vae, where=path) if of_vae else None,
        label=f"{path.name} {short_hash(path)}",
        notes=notes,
    )


def is_nested(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint holds more than named tensors, perhaps under one of the usual wrappers."""
    if STATE in content:
        return True
    wrapped = any(isinstance(content.get(key), Mapping) for key in WRAPPERS)
    return not wrapped and not all(isinstance(value, Tensor) for value in content.values())


def _read_nested(
    path: Path, content: Mapping[str, Any], unet: Modules, vae: Modules | None, wanted: OneStepRecipe | None
) -> OneStepFile:
    found = _recognised(path, content, wanted)
    state = _state(path, content, STATE)
    used: set[str] = set()
    loras: dict[str, Lora] = {}
    for slider, adapters in found.unet.items():
        taken = _of_adapters(state, adapters)
        used |= taken.keys()
        loras[slider] = _nested_lora(path, content, taken, adapters, found, unet)
    whole = {}
    for module in found.whole:
        # PEFT calls it so where the module is adapted as well.
        inside = f"{module}.base_layer." if not found.mixed else f"{module}."
        base = {name: tensor for name, tensor in state.items() if name.startswith(inside)}
        if f"{inside}weight" not in base:
            raise SpecMismatchError(
                f"{path}: expected {module} whole ({inside}weight), got none; get the file again"
            )
        used |= base.keys()
        whole |= {name.replace(".base_layer.", "."): tensor for name, tensor in base.items()}
    _nothing_left(path, STATE, state, used)
    _check_whole(path, whole, unet)
    of_vae = _nested_vae(path, content, found, vae)
    mixing = {}
    if found.mixed:
        of_both = {"unet": loras["all"], "vae": of_vae}
        mixing = {
            network: read_mixing(content, network, lora.rank, path)
            for network, lora in of_both.items()
            if lora is not None
        }
    return OneStepFile(
        recipe=found,
        unet=loras,
        vae=of_vae,
        unet_whole=whole,
        mixing=mixing,
        label=f"{path.name} {short_hash(path)}",
    )


def _nested_vae(
    path: Path, content: Mapping[str, Any], found: OneStepRecipe, vae: Modules | None
) -> Lora | None:
    if not found.vae:
        return None
    state, used = _state(path, content, "state_dict_vae"), set[str]()
    parts = []
    for adapters in found.vae:
        taken = _of_adapters(state, adapters)
        used |= taken.keys()
        parts.append(_nested_lora(path, content, taken, adapters, found, vae))
    _nothing_left(path, "state_dict_vae", state, used)
    return _joined(parts, found)


def _recognised(path: Path, content: Mapping[str, Any], wanted: OneStepRecipe | None) -> OneStepRecipe:
    """Return the recipe that has all its entries in a nested file; of several, the one with the most."""
    nested = [each for each in recipes() if each.keys]
    fitting = [each for each in nested if set(each.keys) <= content.keys()]
    if wanted is not None:
        if wanted not in fitting:
            raise SpecMismatchError(
                f"{path}: is no file of {wanted.title}: lacks {listed(_lacking(content, wanted)) or 'its layout'}; "
                "leave the recipe out, or name its own"
            )
        return wanted
    if fitting:
        return max(fitting, key=lambda each: len(each.keys))
    nearest = max(nested, key=lambda each: len(set(each.keys) & content.keys()) / len(each.keys))
    lacking = _lacking(content, nearest)
    near = f"the nearest known recipe is {nearest.name}, of which it lacks {listed(lacking)}"
    if len(lacking) == len(nearest.keys):
        near = f"no known recipe ({', '.join(each.name for each in recipes())}) has any of them"
    raise SpecMismatchError(
        f"{path}: a restorer of an unknown family: its entries are {listed(sorted(map(str, content)))}; {near}; use a "
        "plain LoRA or a file of a known family (hypir engines)"
    )


def _lacking(content: Mapping[str, Any], wanted: OneStepRecipe) -> list[str]:
    return [key for key in wanted.keys if key not in content]


def _state(path: Path, content: Mapping[str, Any], key: str) -> dict[str, Tensor]:
    state = content[key]
    strange = not isinstance(state, Mapping) or [k for k, v in state.items() if not isinstance(v, Tensor)]
    if strange or not state:
        raise WeightsError(f"{path}: expected named tensors in {key}, got something else; get the file again")
    tensors = {str(name): tensor.detach() for name, tensor in state.items()}
    check_finite(tensors, path)
    return tensors


def _of_adapters(state: Mapping[str, Tensor], adapters: Adapters) -> dict[str, Tensor]:
    """Return the tensors of some adapters."""
    endings = tuple(f".{name}.weight" for name in adapters.names)
    return {name: tensor for name, tensor in state.items() if name.endswith(endings)}


def _nested_lora(
    path: Path,
    content: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    adapters: Adapters,
    found: OneStepRecipe,
    modules: Modules | None,
) -> Lora:
    lora = lora_from_tensors(tensors, {}, where=path)
    rank = content[adapters.rank]
    if rank != lora.rank or lora.ranks != (rank,):
        raise SpecMismatchError(
            f"{path}: expected rank {rank!r}, stated by its own {adapters.rank}, got "
            f"{', '.join(map(str, lora.ranks))}; get the file again"
        )
    declared = {str(module) for key in adapters.modules for module in content[key]}
    if adapters.targets:
        inside = modules if modules is not None else lora.factors
        declared = {module for module in inside if _targeted(module, content[adapters.targets])}
    apart = sorted(declared ^ lora.factors.keys())
    if apart:
        entries = ", ".join((*adapters.modules, adapters.targets)).strip(", ")
        raise SpecMismatchError(
            f"{path}: expected adapters of the modules that it lists ({entries}), and of no others; "
            f"differs in {listed(apart)}; get the file again"
        )
    return _known(lora, found, modules, path)


def _targeted(module: str, targets: Any) -> bool:
    """Say whether PEFT adapts a module, by its ``target_modules``."""
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    return any(module == target or module.endswith(f".{target}") for target in targets)


def _known(lora: Lora, found: OneStepRecipe, modules: Modules | None, path: Path) -> Lora:
    """Give a LoRA the strength that its recipe knows, and check it against its network."""
    alpha = lora.alpha if found.alpha is None else found.alpha
    spec = found.spec(rank=lora.rank, alpha=alpha, targets=tuple(lora.factors))
    notes = lora.notes if found.alpha is None else ()
    lora = replace(
        lora, spec=spec, alpha=alpha, scales={} if found.alpha else lora.scales, notes=notes, path=path
    )
    if modules is not None:
        check_lora(lora, modules, where=path)
    return lora


def _joined(parts: list[Lora], found: OneStepRecipe) -> Lora:
    """Return adapters of different modules of one network as one LoRA."""
    factors = {module: pair for part in parts for module, pair in part.factors.items()}
    first = parts[0]
    scales = {m: s for part in parts for m in part.factors if (s := part.scale_of(m)) != first.scale}
    spec = found.spec(rank=first.rank, alpha=first.alpha, targets=tuple(factors))
    return replace(first, factors=factors, scales=scales, spec=spec)


def _nothing_left(path: Path, key: str, state: Mapping[str, Tensor], used: set[str]) -> None:
    left = sorted(state.keys() - used)
    if left:
        raise SpecMismatchError(
            f"{path}: {key} holds {listed(left)} that its recipe does not know; the result would not be the authors': "
            "use the published file"
        )


def _check_whole(path: Path, whole: Mapping[str, Tensor], modules: Modules) -> None:
    wrong = [
        f"{name}: expected {shape}, got {tuple(tensor.shape)}"
        for name, tensor in whole.items()
        if name.endswith(".weight")
        and (shape := modules.get(name.removesuffix(".weight"))) != tuple(tensor.shape)
    ]
    if wrong:
        raise SpecMismatchError(f"{path}: does not fit: {listed(wrong)}; it was made for another base model")


def _read_folder(path: Path, unet: Modules, vae: Modules | None, wanted: OneStepRecipe | None) -> OneStepFile:
    for each in recipes():
        parts = [part for part in (*each.unet.values(), *each.vae) if part.folder]
        there = [part.folder for part in parts if (path / part.folder).is_dir()]
        if each.layout is Layout.adapters and there:
            lacking = [part.folder for part in parts if part.folder not in there]
            if lacking:
                raise SpecMismatchError(
                    f"{path}: expected the folders of {each.title}, {', '.join(p.folder for p in parts)}, got no "
                    f"{', '.join(lacking)}; get the rest of it"
                )
            _require_named(path, each, wanted)
            return _read_adapters(path, each, unet, vae)
    if network_files(path / "unet") and network_files(path / "vae"):
        return _read_merged(path, unet, vae, wanted)
    names = sorted(child.name for child in path.iterdir())
    raise SpecMismatchError(
        f"{path}: expected a restorer: a folder with unet_lora_adapter and vae_encoder_lora_adapter, or with unet and "
        f"vae; got {listed(names) if names else 'an empty folder'}; name the file inside it"
    )


def _require_named(path: Path, found: OneStepRecipe, wanted: OneStepRecipe | None) -> None:
    if wanted is not None and wanted.name != found.name:
        raise SpecMismatchError(
            f"{path}: expected a file of {wanted.title}, got one of {found.title}; leave the recipe out, or name its own"
        )


def _read_adapters(path: Path, found: OneStepRecipe, unet: Modules, vae: Modules | None) -> OneStepFile:
    loras = {slider: _folder_lora(path, part, found, unet) for slider, part in found.unet.items()}
    parts = [_folder_lora(path, part, found, vae) for part in found.vae]
    each = [*loras.values(), *parts]
    hashes = " ".join(short_hash(lora.path) for lora in each if lora.path is not None)
    return OneStepFile(
        recipe=found,
        unet=loras,
        vae=_joined(parts, found) if parts else None,
        label=f"{path.name} {hashes}",
        notes=tuple(dict.fromkeys(note for lora in each for note in lora.notes)),
    )


def _folder_lora(path: Path, part: Adapters, found: OneStepRecipe, modules: Modules | None) -> Lora:
    folder = path / part.folder
    lora = read_lora(folder)
    assert lora.path is not None
    factors = {f"{part.prefix}{module}": pair for module, pair in lora.factors.items()}
    scales = {f"{part.prefix}{module}": scale for module, scale in lora.scales.items()}
    lora = _known(replace(lora, factors=factors, scales=scales), found, modules, lora.path)
    if modules is not None:
        _require_all_targets(lora, part, modules)
    return lora


def _require_all_targets(lora: Lora, part: Adapters, modules: Modules) -> None:
    """Refuse an adapter that lacks a module which its own configuration names."""
    assert lora.path is not None
    stated = adapter_beside(lora.path)
    if stated is None or not stated.targets:
        return
    endings = tuple(f".{target}" for target in stated.targets)
    inside = {m.removeprefix(part.prefix): m for m in modules if m.startswith(part.prefix)}
    meant = {full for name, full in inside.items() if name in stated.targets or name.endswith(endings)}
    apart = sorted(meant ^ lora.factors.keys())
    if apart:
        raise SpecMismatchError(
            f"{lora.path}: expected adapters of the modules that {stated.source} names, and of no others; differs in "
            f"{listed(apart)}; get the file again"
        )


def _read_merged(path: Path, unet: Modules, vae: Modules | None, wanted: OneStepRecipe | None) -> OneStepFile:
    merged = [each for each in recipes() if each.layout is Layout.merged]
    if wanted is None:
        raise SpecMismatchError(
            f"{path}: a whole UNet and VAE do not say which restorer was merged into them; name its recipe, one of "
            f"{', '.join(each.name for each in merged)} (--recipe NAME)"
        )
    if wanted not in merged:
        raise SpecMismatchError(
            f"{path}: expected a file of {wanted.title}, got a folder with a whole unet and vae; name another recipe, "
            f"one of {', '.join(each.name for each in merged)}"
        )
    unet_file, vae_file = network_files(path / "unet")[0], network_files(path / "vae")[0]
    tensors = read_tensors(unet_file).tensors
    names = unet_names(tensors)
    if names is None:
        raise WeightsError(
            f"{unet_file}: expected a Stable Diffusion UNet, got {listed(list(tensors))} other tensors; get it again"
        )
    whole = {new: tensors[old] for new, old in names.items()}
    coder = vae_tensors(read_tensors(vae_file).tensors, where=vae_file)
    _check_whole(unet_file, {n: t for n, t in whole.items() if t.ndim in {2, 4}}, unet)
    if vae is not None:
        _check_whole(vae_file, {n: t for n, t in coder.items() if t.ndim in {2, 4}}, vae)
    check_finite(whole, unet_file)
    check_finite(coder, vae_file)
    return OneStepFile(
        recipe=wanted,
        unet_whole=whole,
        vae_whole=coder,
        label=f"{path.name} {fingerprint(unet_file)} {fingerprint(vae_file)}",
    )
