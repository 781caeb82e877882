"""Base models in folders as people have them: shards, variants, halves of downloads; and what tells them apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from hypir_core.errors import WeightsError, WeightsNotFoundError
from hypir_core.lora.convert import convert
from hypir_core.models.sd.backbone import Backbone, load_base
from hypir_core.weights import fingerprint
from hypir_core.weights.file_names import network_files
from hypir_core.weights.fingerprint import fingerprint_of_base, sampled_hash, short_hash
from hypir_core.weights.search.base_files import BaseFiles
from hypir_core.weights.search.base_layout import Missing, read_base
from hypir_core.weights.search.locate import locate_base, locate_lora
from hypir_core.weights.tensors import read_tensors

PARTS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
TEXT = ("model", "pytorch_model")


@pytest.fixture(scope="module")
def model(golden: Path) -> Path:
    return golden / "hypir" / "model"


@pytest.fixture(scope="module")
def expected(model: Path) -> Backbone:
    return load_base(files_at(model))


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """Return a copy that may be changed."""
    return Path(shutil.copytree(model, tmp_path / "base"))


def files_at(path: Path) -> BaseFiles:
    files = read_base(path, found_in="a test")
    assert isinstance(files, BaseFiles), files
    return files


def saved_again(
    folder: Path, model: Path, part: str, *, shards: bool, variant: str | None, pickled: bool = False
) -> None:
    """Let diffusers and transformers themselves write one network in another packaging."""
    network = PARTS[part].from_pretrained(model / part, torch_dtype=torch.float16)
    shutil.rmtree(folder / part)
    size = {"max_shard_size": "30KB" if part == "text_encoder" else "200KB"} if shards else {}
    extra = {"safe_serialization": False} if pickled else {}
    network.save_pretrained(folder / part, variant=variant, **size, **extra)


def same(a: Backbone, b: Backbone) -> bool:
    return all(
        all(
            torch.equal(x, y)
            for x, y in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        )
        for first, second in ((a.unet, b.unet), (a.vae, b.vae), (a.text_encoder, b.text_encoder))
    )


@pytest.mark.parametrize("variant", [None, "fp16", "bf16"])
@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("parts", [("unet",), ("vae",), ("text_encoder",), tuple(PARTS)])
def test_what_the_libraries_save_loads(
    folder: Path,
    model: Path,
    expected: Backbone,
    parts: tuple[str, ...],
    shards: bool,
    variant: str | None,
):
    for part in parts:
        saved_again(folder, model, part, shards=shards, variant=variant)
        indices = list((folder / part).glob("*index*.json"))
        assert bool(indices) == shards, "the library did not write what this test is about"
    assert same(load_base(files_at(folder)), expected)
    assert same(load_base(locate_base(folder)), expected)


@pytest.mark.parametrize("shards", [False, True])
def test_pickled_networks_load(folder: Path, model: Path, expected: Backbone, shards: bool):
    for part in ("unet", "vae"):
        saved_again(folder, model, part, shards=shards, variant=None, pickled=True)
        assert not list((folder / part).glob("*.safetensors"))
    assert same(load_base(files_at(folder)), expected)


@pytest.mark.parametrize(
    "index",
    [
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model.safetensors.index.fp16.json",
        "diffusion_pytorch_model.safetensors.fp16.index.json",
        "diffusion_pytorch_model.fp16.safetensors.index.json",
    ],
)
def test_every_place_of_a_variant_in_an_index_is_known(folder: Path, model: Path, index: str):
    saved_again(folder, model, "unet", shards=True, variant=None)
    there = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    there.rename(there.with_name(index))
    assert files_at(folder).unet == folder / "unet" / index
    plain = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    assert read_tensors(folder / "unet" / index).tensors.keys() == plain.keys()


def test_the_best_file_comes_first(tmp_path: Path):
    names = [
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp32.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model.bf16.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.safetensors.index.fp16.json",
        "diffusion_pytorch_model.non_ema.safetensors",
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.bin.index.json",
        "diffusion_pytorch_model.fp16.bin",
    ]
    others = [
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
        "diffusion_flax_model.msgpack",
        "model.safetensors",
        "config.json",
    ]
    for name in (*others, *names):
        (tmp_path / name).touch()
    found = [path.name for path in network_files(tmp_path)]
    full = names[:3]
    assert sorted(found[:3]) == sorted(full)
    assert found[2] == names[2]
    assert found[3:] == names[3:]
    assert [path.name for path in network_files(tmp_path, TEXT)] == ["model.safetensors"]
    assert network_files(tmp_path / "nothing") == []


def test_of_two_the_whole_one_is_taken(folder: Path, model: Path):
    shutil.copy(folder / "unet/diffusion_pytorch_model.safetensors", folder / "half.safetensors")
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\n"
    )
    reason = read_base(folder, found_in="")
    assert isinstance(reason, Missing)
    assert "Git LFS pointer" in reason.reason
    (folder / "half.safetensors").rename(folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    assert files_at(folder).unet == folder / "unet/diffusion_pytorch_model.fp16.safetensors"


def first_shard(folder: Path) -> Path:
    return sorted((folder / "unet").glob("*-00001-of-*.safetensors"))[0]


def changed_index(change: Callable[[dict[str, str]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
        data = json.loads(index.read_text())
        change(data["weight_map"])
        index.write_text(json.dumps(data))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: first_shard(f).unlink(), r"of them are not there, the first is .*-00001-of-"),
        (lambda f: first_shard(f).write_bytes(b"<!DOCTYPE html>"), r"-00001-of-.* is a web page"),
        (lambda f: first_shard(f).write_bytes(b""), r"-00001-of-.* is an empty file"),
        (lambda f: next((f / "unet").glob("*.index.json")).write_text("{"), "cannot be read as JSON"),
        (lambda f: next((f / "unet").glob("*.index.json")).write_text("[]"), "weight_map"),
        (changed_index(lambda m: m.update(a="../b.safetensors")), r"beside it, got '\.\./b\.safetensors'"),
        (changed_index(lambda m: m.clear()), "weight_map"),
    ],
)
def test_a_half_sharded_network_is_named(
    folder: Path, model: Path, damage: Callable[[Path], object], message: str
):
    saved_again(folder, model, "unet", shards=True, variant=None)
    damage(folder)
    with pytest.raises(WeightsNotFoundError, match=message):
        locate_base(folder)


def test_a_shard_that_lacks_a_tensor_is_named(folder: Path, model: Path):
    saved_again(folder, model, "unet", shards=True, variant=None)
    shard = first_shard(folder)
    tensors = load_file(shard)
    name = next(iter(tensors))
    tensors.pop(name)
    save_file(tensors, shard)
    with pytest.raises(WeightsError, match=r"-00001-of-.*: lacks 1 \(" + name):
        load_base(files_at(folder))


def test_a_lora_is_merged_into_a_sharded_base(folder: Path, model: Path, tmp_path: Path):
    saved_again(folder, model, "unet", shards=True, variant="fp16")
    lora = model.parent / "lora.pth"
    for name, base in (("a", model), ("b", folder)):
        convert(lora, tmp_path / f"{name}.safetensors", to="merged", base=base, dtype=torch.float32)
    a, b = (load_file(tmp_path / f"{name}.safetensors") for name in "ab")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


# What tells base models apart.


def test_the_fingerprint_is_of_the_content(folder: Path, model: Path, tmp_path: Path):
    known = fingerprint_of_base(files_at(model))
    assert known == fingerprint_of_base(files_at(folder))
    assert known.startswith("sha256:")
    assert len(known) == len("sha256:") + 16
    renamed = folder.rename(tmp_path / "another name")
    unet = renamed / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_name("diffusion_pytorch_model.fp32.safetensors"))
    assert fingerprint_of_base(replace(files_at(renamed), found_in="elsewhere", tokenizer=None)) == known


@pytest.mark.parametrize(
    "file",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_change_of_any_part_changes_the_fingerprint(folder: Path, model: Path, file: str):
    content = bytearray((folder / file).read_bytes())
    content[-2] ^= 1
    (folder / file).write_bytes(content)
    assert fingerprint_of_base(files_at(folder)) != fingerprint_of_base(files_at(model))


def test_a_change_of_any_shard_changes_the_fingerprint(folder: Path, model: Path):
    saved_again(folder, model, "unet", shards=True, variant=None)
    seen = {fingerprint_of_base(files_at(folder))}
    for shard in sorted((folder / "unet").glob("*.safetensors")):
        content = bytearray(shard.read_bytes())
        content[-2] ^= 1
        shard.write_bytes(content)
        seen.add(fingerprint_of_base(files_at(folder)))
    assert len(seen) == 1 + len(list((folder / "unet").glob("*.safetensors")))


def test_a_single_file_has_one_too(tmp_path: Path):
    (tmp_path / "v2-1_512-ema-pruned.ckpt").write_bytes(b"PK\x03\x04 a")
    (tmp_path / "other.ckpt").write_bytes(b"PK\x03\x04 b")
    prints = {fingerprint_of_base(files_at(path)) for path in tmp_path.iterdir()}
    assert len(prints) == 2


@pytest.mark.parametrize("extra_bytes", [-1, 0, 1, 5, 1000])
def test_a_large_file_is_sampled_from_its_first_to_its_last_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra_bytes: int
):
    monkeypatch.setattr(fingerprint, "SAMPLE_BLOCKS", 5)
    monkeypatch.setattr(fingerprint, "SAMPLE_BLOCK_BYTES", 16)
    size = 80 + extra_bytes
    path = tmp_path / "x"

    def hash_with(position: int | None) -> str:
        content = bytearray(size)
        if position is not None:
            content[position] = 1
        path.write_bytes(content)
        return sampled_hash(path)

    plain = hash_with(None)
    changed = [hash_with(position) != plain for position in range(size)]
    assert changed[:16] == [True] * 16
    assert changed[-16:] == [True] * 16
    assert sum(changed) >= min(size, 80 - 5)
    path.write_bytes(bytes(size + 1))
    assert sampled_hash(path) != plain


def test_an_unreadable_file_is_named(tmp_path: Path):
    with pytest.raises(WeightsError, match="gone"):
        short_hash(tmp_path / "gone")


# A LoRA in a folder or a repository.


@pytest.fixture
def lora_tensors(model: Path) -> dict[str, torch.Tensor]:
    return torch.load(model.parent / "lora.pth", weights_only=True)


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (["HYPIR_sd2.safetensors", "adapter_model.safetensors"], "HYPIR_sd2.safetensors"),
        (["adapter_model.safetensors", "optimizer.pt"], "adapter_model.safetensors"),
        (["pytorch_lora_weights.safetensors", "x.safetensors"], "pytorch_lora_weights.safetensors"),
        (["adapter_model.bin", "adapter_model.safetensors"], "adapter_model.safetensors"),
        (["mine.safetensors"], "mine.safetensors"),
        (["a.safetensors", "b.safetensors"], None),
        ([], None),
    ],
)
def test_a_folder_with_a_lora(
    tmp_path: Path, lora_tensors: dict[str, torch.Tensor], there: list[str], wanted: str | None
):
    for name in there:
        save_file(lora_tensors, tmp_path / name)
    if wanted is not None:
        assert locate_lora(tmp_path) == tmp_path / wanted
        return
    reason = r"2 weight files \(a\.safetensors, b\.safetensors" if there else "no file called HYPIR"
    with pytest.raises(WeightsNotFoundError, match=reason):
        locate_lora(tmp_path)


def test_a_lora_of_a_repository_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora_tensors: dict[str, torch.Tensor]
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--restorer" / "snapshots" / "0123456789"
    snapshot.mkdir(parents=True)
    save_file(lora_tensors, snapshot / "adapter_model.safetensors")
    assert locate_lora("someone/restorer") == snapshot / "adapter_model.safetensors"
    with pytest.raises(WeightsNotFoundError, match="someone/other: not downloaded"):
        locate_lora("someone/other")
