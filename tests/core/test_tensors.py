"""Opening and writing weight files; the readers and writers of torch and safetensors are the reference."""

from __future__ import annotations

import os
import pickle
import struct
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from hypir_core.errors import WeightsError, WeightsNotFoundError
from hypir_core.weights.tensors import (
    check_finite,
    read_checkpoint,
    read_tensors,
    write_original_pth,
    write_tensors,
)

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


def some_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(3, 5, generator=generator) * 3
    return {f"layer.{str(dtype).removeprefix('torch.')}": values.to(dtype) for dtype in DTYPES} | {
        "scalar": torch.tensor(2.5),
        "nothing": torch.zeros(0, 4),
        "transposed": values.T,
        'naïve "name"': values[:, 1:3],
    }


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype
        and a[name].shape == b[name].shape
        and torch.equal(bits(a[name]), bits(b[name]))
        for name in a
    )


class Boom:
    """Pickles into a call that creates `marker`."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_written_file_is_read_by_safetensors_itself(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, some_tensors(), {"b": "2", "a": "ä"})
    assert same(load_file(path), some_tensors())
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "a": "ä", "b": "2"}


def test_read_what_safetensors_wrote(tmp_path: Path):
    path = tmp_path / "a.bin"  # the content decides, not the ending
    tensors = {name: tensor.contiguous() for name, tensor in some_tensors().items()}
    save_file(tensors, path, metadata={"k": "v"})
    file = read_tensors(path)
    assert same(file.tensors, tensors)
    assert file.metadata == {"k": "v"}
    assert file.path == path


@pytest.mark.parametrize("header_bytes", [0x0180, 0x4B50])
def test_a_header_length_that_looks_like_a_pickle_or_zip(tmp_path: Path, header_bytes: int):
    """The first bytes of a safetensors file are a number; 1 of 32 files starts with a pickle's 0x80."""
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.ones(2)}, {"pad": ""})
    short = int.from_bytes(path.read_bytes()[:8], "little")
    write_tensors(path, {"a": torch.ones(2)}, {"pad": "x" * (header_bytes - short)})
    assert path.read_bytes()[:2] == header_bytes.to_bytes(2, "little")
    assert torch.equal(read_checkpoint(path)["state_dict"]["a"], torch.ones(2))
    assert same(read_tensors(path).tensors, {"a": torch.ones(2)})


def test_equal_content_gives_equal_bytes(tmp_path: Path):
    tensors = some_tensors()
    backwards = dict(reversed(tensors.items()))
    write_tensors(tmp_path / "a.safetensors", tensors, {"x": "1", "y": "2"})
    write_tensors(tmp_path / "b.safetensors", backwards, {"y": "2", "x": "1"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_remains(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"old": torch.ones(2)}, {})
    before = path.read_bytes()
    with pytest.raises(RuntimeError):  # a meta tensor has no bytes to write
        write_tensors(path, {"a": torch.ones(2), "b": torch.empty(2, device="meta")}, {})
    with pytest.raises(WeightsError, match="complex64"):
        write_tensors(path, {"a": torch.ones(2, dtype=torch.complex64)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_missing_folder_says_so(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"folder .*none does not exist"):
        write_tensors(tmp_path / "none" / "a.safetensors", {"a": torch.ones(1)}, {})


@pytest.mark.parametrize("zipped", [True, False])
def test_read_what_torch_saved(tmp_path: Path, zipped: bool):
    path = tmp_path / "a.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in some_tensors().items()}
    if not zipped:  # the old container is older than 8-bit floats
        tensors = {name: tensor for name, tensor in tensors.items() if "float8" not in name}
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    file = read_tensors(path)
    assert same(file.tensors, tensors)
    assert file.metadata == {}


def test_original_container_is_a_plain_dict_of_plain_tensors(tmp_path: Path):
    path = tmp_path / "a.pth"
    base = torch.arange(1000.0)
    write_original_pth(path, {"b": base[:4], "a": torch.nn.Parameter(torch.ones(2))})
    loaded = torch.load(path, weights_only=True)
    assert list(loaded) == ["a", "b"]
    assert type(loaded["a"]) is Tensor
    assert loaded["b"].untyped_storage().nbytes() == 16  # the view, not the thousand numbers under it


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {"state_dict": t, "global_step": 3},
        lambda t: {"params_ema": t, "params": {"x": torch.zeros(1)}},
        lambda t: {"params": t},
        lambda t: {"model": {"state_dict": t}},
        lambda t: {f"module.{k}": v for k, v in t.items()},
        lambda t: {"state_dict": {f"module._orig_mod.{k}": v for k, v in t.items()}, "epoch": 1},
        lambda t: {k: torch.nn.Parameter(v) for k, v in t.items()},
    ],
)
def test_wrappers_are_opened(tmp_path: Path, wrap):
    tensors = {"a.weight": torch.arange(6.0).view(2, 3), "module_b.bias": torch.ones(2)}
    torch.save(wrap(tensors), tmp_path / "a.pth")
    got = read_tensors(tmp_path / "a.pth").tensors
    assert same(got, tensors)
    assert not any(tensor.requires_grad for tensor in got.values())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([torch.ones(1)], "got list"),
        ({"weights": {"a": torch.ones(1)}}, "'weights': dict"),
        ({"a": torch.ones(1), "epoch": 3}, "'epoch': int"),
        ({0: torch.ones(1)}, "0: Tensor"),
        ({"state_dict": {}}, "got none"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: object, named: str):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=named) as caught:
        read_tensors(tmp_path / "a.pth")
    assert "a.pth" in str(caught.value)


@pytest.mark.parametrize("container", ["zip", "legacy", "pickle", "wrapped"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, container: str):
    path, marker = tmp_path / "a.pth", tmp_path / "ran"
    if container == "pickle":
        path.write_bytes(pickle.dumps({"a": Boom(marker)}, protocol=2))
    elif container == "wrapped":
        torch.save({"state_dict": {"a": torch.ones(1)}, "optimizer": Boom(marker)}, path)
    else:
        torch.save({"a": Boom(marker)}, path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(WeightsError, match=r"a\.pth: .*would run .*mkdir.*nothing was run"):
        read_tensors(path)
    assert not marker.exists()
    with path.open("rb") as file:  # the trap is real: an unrestricted reader runs it
        pickle.load(file) if container == "pickle" else torch.load(file, weights_only=False)
    assert marker.exists()


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(WeightsNotFoundError, match=r"no\.pth: no such file"):
        read_tensors(tmp_path / "no.pth")
    with pytest.raises(WeightsError, match="got a folder"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "an empty file"),
        (b"hello, this is a readme", r"text \('hello, this is a readme'\)"),
        (b"<!DOCTYPE html><html><body>Sign in", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a Git LFS pointer"),
        (b"GGUF\x03\x00\x00\x00" + b"\x00" * 40, "a GGUF file"),
        (b"\x00\xff" * 100, "200 unknown bytes"),
        (struct.pack("<Q", 2) + b"{}", "got none"),
        (struct.pack("<Q", 1 << 20) + b"{}", "truncated or damaged"),
        (b"\x80\x02}q", "truncated, damaged"),
        (b"PK\x03\x04" + b"\x00" * 40, "truncated, damaged"),
    ],
)
def test_what_is_not_a_weight_file_is_named(tmp_path: Path, content: bytes, got: str):
    path = tmp_path / "lora.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=got) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    tensors = {"a.weight": torch.arange(12.0).view(3, 4), "b": torch.ones(3, dtype=torch.bfloat16)}
    write_tensors(folder / "safetensors", tensors, {"k": "v"})
    torch.save(tensors, folder / "zip")
    torch.save(tensors, folder / "legacy", _use_new_zipfile_serialization=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(tmp_path: Path, whole_files: dict[str, bytes], kind: str, part: float):
    path = tmp_path / kind
    path.write_bytes(whole_files[kind][: int(part * len(whole_files[kind]))])
    with pytest.raises(WeightsError, match=kind):
        read_tensors(path)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@pytest.mark.filterwarnings("ignore")  # torch warns about what the damage turned the pickle into
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_file_is_read_or_refused(
    tmp_path: Path, whole_files: dict[str, bytes], kind: str, where: float, byte: int
):
    content = bytearray(whole_files[kind])
    content[int(where * len(content))] = byte
    path = tmp_path / kind
    path.write_bytes(content)
    with suppress(WeightsError):  # no other error, and never a half-read file
        assert all(isinstance(tensor, Tensor) for tensor in read_tensors(path).tensors.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_check_finite_lists_the_bad_tensors(value: float, dtype: torch.dtype):
    bad = torch.tensor([1.0, value]).to(dtype)
    with pytest.raises(WeightsError, match=r"x\.pth: .*in 2 \(b, c\) of 4"):
        check_finite({"a": torch.ones(2).to(dtype), "b": bad, "c": bad, "d": torch.ones(1).long()}, "x.pth")


def test_check_finite_lists_no_more_than_eight_names():
    tensors = {f"t{index}": torch.tensor(float("nan")) for index in range(20)}
    with pytest.raises(WeightsError, match=r"20 \(t0, t1, .*t7, …\) of 20") as caught:
        check_finite(tensors, "x")
    assert "t8" not in str(caught.value)


def test_check_finite_accepts_large_numbers():
    check_finite({"a": torch.full((4,), 65504.0, dtype=torch.float16), "b": torch.empty(0)}, "x")
