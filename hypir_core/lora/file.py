"""LoRA files: read in any naming into one canonical form, checked strictly, and written.

Conventions: ``down`` is A, ``up`` is B; the weight change of a module is alpha / rank · B·A. Rank and alpha may
differ from module to module. `strength` says where alpha is looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError, SpecMismatchError, WeightsError
from ..weights.spec import METADATA_KEY, LoraSpec, spec_from_metadata, spec_to_metadata
from ..weights.tensors import (
    TensorFile,
    check_finite,
    listed,
    not_finite,
    read_tensors,
    write_original_pth,
    write_tensors,
)
from .adapter_config import CONFIG_FILE, WEIGHT_STEM, AdapterConfig, adapter_beside, adapter_in_metadata
from .kinds import refuse_other_kinds, split_text_encoder
from .names import OF_VAE, TARGET_MODULES, LoraForm, WeightShape, adapted_modules, key_name, parse_keys
from .pairs import check_products, factor_shapes, pair_up, raise_found, rank_of, shapes_of, shapes_text
from .strength import strength_of

# One key of an earlier form decides: outside of attentions, ComfyUI's names look like diffusers'.
_TELLING_FORMS = (LoraForm.comfyui, LoraForm.kohya, LoraForm.original, LoraForm.diffusers)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lora:
    """Low-rank changes of a UNet's weights, by the diffusers path of the module."""

    factors: Mapping[str, tuple[Tensor, Tensor]]
    """Module → (down, up): Linear (rank, in), (out, rank); Conv2d (rank, in, kh, kw), (out, rank, 1, 1)."""
    rank: int
    """Of most modules; that of one module is the size of its factors."""
    alpha: float
    """alpha / rank is what the product of the factors is multiplied by."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """Module → what its product is multiplied by, where that is not alpha / rank."""
    spec: LoraSpec | None = None
    """What the file says about itself; None for one that does not say."""
    form: LoraForm | None = None
    """How the file it came from writes its names."""
    path: Path | None = None
    notes: tuple[str, ...] = ()
    """What was left out or assumed when it was read, a sentence each; for reports."""

    @property
    def scale(self) -> float:
        """What the product of the factors of most modules is multiplied by."""
        return self.alpha / self.rank

    def scale_of(self, module: str) -> float:
        """Return what the product of a module's factors is multiplied by."""
        return self.scales.get(module, self.scale)

    def alpha_of(self, module: str) -> float:
        """Return the alpha of a module: its scale × its own rank."""
        rank = rank_of(self.factors[module])
        if module not in self.scales and rank == self.rank:
            return self.alpha
        return self.scale_of(module) * rank

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that its modules have, each once, the smallest first."""
        return tuple(sorted({rank_of(pair) for pair in self.factors.values()}))

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Which modules this LoRA claims to adapt, as endings of their names."""
        return self.spec.target_modules if self.spec else TARGET_MODULES


def read_lora(path: str | Path, modules: Mapping[str, WeightShape] | None = None) -> Lora:
    """Read a LoRA file in any known naming, .safetensors or .pth.

    Args:
        path: the file, or the folder of a PEFT adapter.
        modules: name → weight shape of the UNet's Linear and Conv2d modules (`adaptable_modules`); the LoRA
            is then checked against them (`check_lora`). Without it only the file itself is checked, and names
            that are ambiguous on their own (kohya's) are refused.

    Raises:
        WeightsError: the file cannot be read, is no LoRA, or holds NaN or infinity.
        SpecMismatchError: it does not fit the UNet, its own spec, or itself; lists what differs.
    """
    file = read_tensors(_weight_file(Path(path)))
    if any(name.startswith(OF_VAE) for name in file.tensors):
        raise SpecMismatchError(
            f"{file.path}: expected a LoRA of the UNet alone, got one that changes the VAE's encoder too; restore "
            "with it (hypir restore --lora, Load HYPIR LoRA)"
        )
    return lora_of_file(file, modules)


def lora_of_file(file: TensorFile, modules: Mapping[str, WeightShape] | None = None) -> Lora:
    """Do what `read_lora` does for a file that was read."""
    beside = None if METADATA_KEY in file.metadata else adapter_beside(file.path)
    lora = lora_from_tensors(file.tensors, file.metadata, modules, where=file.path, adapter=beside)
    return replace(lora, path=file.path)


def lora_from_tensors(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    modules: Mapping[str, WeightShape] | None = None,
    *,
    where: str | Path,
    adapter: AdapterConfig | None = None,
) -> Lora:
    """Do what `read_lora` does for named tensors in memory.

    Args:
        tensors: by the names of the file.
        metadata: of the file.
        modules: as for `read_lora`.
        where: names the file in errors.
        adapter: what lies beside the file about rank and alpha; the metadata come first.
    """
    names, text_encoder = split_text_encoder(tensors)
    if text_encoder and not names:
        raise WeightsError(
            f"{where}: expected a LoRA of a UNet, got only one of a text encoder: {listed(text_encoder)}; "
            "give another file"
        )
    refuse_other_kinds(names, where)
    keys = parse_keys(names, modules or ())
    if not any(keys.values()):
        raise WeightsError(
            f"{where}: expected a LoRA, with keys like X.lora_A.weight or lora_unet_X.lora_down.weight; "
            f"got {listed(list(tensors))} other tensors; give a LoRA file"
        )
    if modules is None and any(key and key.form is LoraForm.kohya for key in keys.values()):
        raise WeightsError(
            f"{where}: underscore names can only be resolved with the UNet's modules; give the base model"
        )
    check_finite({name: tensors[name] for name in names}, where)
    spec = _spec(metadata, where)
    pairs, alphas = pair_up(tensors, keys, where)
    check_products(pairs, where)
    strength = strength_of(
        pairs,
        alphas,
        spec=spec,
        adapter=None if spec else adapter_in_metadata(metadata, where) or adapter,
        metadata=metadata,
        where=where,
    )
    form = next(form for form in _TELLING_FORMS if any(key and key.form is form for key in keys.values()))
    left_out = f"left out: keys of a text encoder, {listed(text_encoder)}; only the UNet is adapted"
    lora = Lora(
        factors=pairs,
        rank=strength.rank,
        alpha=strength.alpha,
        scales=strength.scales,
        spec=spec,
        notes=(*([left_out] if text_encoder else []), *strength.notes),
        form=form,
    )
    if modules is not None:
        check_lora(lora, modules, where=where)
    return lora


def check_lora(lora: Lora, modules: Mapping[str, WeightShape], *, where: str | Path) -> None:
    """Check that a LoRA adapts exactly the modules it should, with factors that fit their weights.

    Args:
        lora: the LoRA.
        modules: name → weight shape of the UNet's Linear and Conv2d modules, adapted or not.
        where: names the LoRA in errors.

    Raises:
        SpecMismatchError: lists the missing and unexpected modules and the wrong shapes.
    """
    expected = adapted_modules(modules, lora.target_modules)
    missing = [name for name in expected if name not in lora.factors]
    unexpected = [name for name in lora.factors if name not in expected]
    wrong = [
        f"{name}: expected {shapes_text(want)}, got {shapes_text(got)}"
        for name, shape in expected.items()
        if name in lora.factors
        and (want := factor_shapes(shape, rank_of(lora.factors[name])))
        != (got := shapes_of(lora.factors[name]))
    ]
    problems = {"missing modules": missing, "unexpected modules": unexpected, "modules of wrong shape": wrong}
    made_for = "another base model" if wrong else "other modules than a one-step LoRA for this base model"
    raise_found(where, problems, f"expected {len(expected)} modules; it was made for {made_for}")
    if lora.rank not in lora.ranks:
        raise SpecMismatchError(
            f"{where}: does not fit: expected rank {lora.rank} in most modules, got "
            f"{', '.join(map(str, lora.ranks))}; its alpha would mean another strength"
        )


def write_lora(path: str | Path, lora: Lora, *, form: LoraForm) -> None:
    """Write a LoRA as safetensors with its spec in the metadata; equal LoRAs give equal bytes.

    A path that ends in ``.pth`` gets the published container instead (a pickled dict of tensors, `original`
    names only, no metadata).

    Raises:
        ConfigError: the ending is neither, or ``.pth`` with other names.
        WeightsError: the file cannot be written.
    """
    path = Path(path)
    tensors, metadata = lora_to_tensors(lora, form)
    if path.suffix == ".safetensors":
        write_tensors(path, tensors, metadata)
    elif path.suffix == ".pth" and form is LoraForm.original:
        write_original_pth(path, tensors)
    else:
        raise ConfigError(
            f"{path}: expected a name ending in .safetensors, or .pth (form original only); got {form.value}"
        )


def lora_to_tensors(lora: Lora, form: LoraForm) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the named tensors and the metadata of a LoRA file of `form`.

    Alpha is written, for all modules, only where that of a module differs from its rank. The forms that have no
    place for it (`original`, `diffusers`) then get it multiplied into ``up``, so that every reader applies the
    same change.

    Raises:
        WeightsError: ``up`` times its scale is too large for its number format.
    """
    says_something = any(lora.scale_of(module) != 1 for module in lora.factors)
    if says_something and not form.keeps_alpha:
        lora, says_something = _with_alpha_in_up(lora), False
    tensors: dict[str, Tensor] = {}
    for module, (down, up) in lora.factors.items():
        tensors[key_name(module, "down", form)] = down
        tensors[key_name(module, "up", form)] = up
        if says_something:
            tensors[key_name(module, "alpha", form)] = torch.tensor(lora.alpha_of(module))
    spec = lora.spec and replace(lora.spec, rank=lora.rank, alpha=lora.alpha)
    return tensors, spec_to_metadata(spec) if spec else {}


def _with_alpha_in_up(lora: Lora) -> Lora:
    """Return a LoRA of the same effect whose modules all have scale 1."""
    factors = {
        module: (down, (up.double() * lora.scale_of(module)).to(up.dtype))
        for module, (down, up) in lora.factors.items()
    }
    bad = not_finite({module: up for module, (_, up) in factors.items()})
    if bad:
        raise WeightsError(
            f"{lora.path or 'LoRA'}: alpha cannot be multiplied into {listed(bad)}: too large for the number format; "
            "write float32 or bfloat16, or a form with alpha tensors (kohya)"
        )
    return replace(lora, factors=factors, alpha=float(lora.rank), scales={})


def _weight_file(path: Path) -> Path:
    """Return the weight file of a PEFT folder; a file is returned as it is."""
    if not path.is_dir():
        return path
    names = [f"{WEIGHT_STEM}{ending}" for ending in (".safetensors", ".bin")]
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise WeightsError(
            f"{path}: expected a LoRA file, or a PEFT folder with {names[0]} and {CONFIG_FILE}; got another "
            "folder: name the file inside it"
        )
    return found


def _spec(metadata: Mapping[str, str], where: str | Path) -> LoraSpec | None:
    if METADATA_KEY not in metadata:
        return None
    spec = spec_from_metadata(metadata, where)
    if not isinstance(spec, LoraSpec):
        raise SpecMismatchError(
            f"{where}: expected a LoRA, got a {spec.kind} by its own {METADATA_KEY}; give another file"
        )
    return spec
