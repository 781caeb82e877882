"""The tagger: what it chooses, remembers and gives back, its LoRA, its files, its small copy."""

from __future__ import annotations

import gc
import shutil
import sys
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import hypir_core.tags.tagger as tagger_module
from hypir_core.caption.catalog import load_captioner
from hypir_core.cli.convert import Target, convert_command
from hypir_core.errors import (
    ConfigError,
    OutOfMemoryError,
    RangeError,
    ShapeError,
    SpecMismatchError,
    WeightsError,
)
from hypir_core.models.tagger.ram import Ram, RamSizes, prepare
from hypir_core.tags.convert import convert_tagger
from hypir_core.tags.files import load_ram, read_tagger
from hypir_core.tags.find import find_tagger
from hypir_core.tags.names import TagList, ram_tags, read_tag_list
from hypir_core.tags.tagger import REMEMBERED, Tagger
from hypir_core.weights.search.locate_tagger import locate_tagger
from hypir_core.weights.tensors import read_tensors

GOLDEN = Path(__file__).parents[1] / "golden" / "seesr"
LIST = GOLDEN / "ram"
RAM, DAPE = LIST / "ram_swin_large_14m.pth", LIST / "DAPE.pth"
PICTURE = load_file(GOLDEN / "tagger.safetensors")["picture_1_uint8"][None] / 255

SWIN_L = RamSizes(
    width=192,
    depths=(2, 2, 18, 2),
    heads=(6, 12, 24, 48),
    window=12,
    mlp_width=768,
    token_width=512,
    label_width=512,
    head_width=768,
    head_mlp_width=3072,
    head_layers=2,
    labels=4585,
)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return read_tensors(RAM).tensors


@pytest.fixture(scope="module")
def dape() -> dict[str, Tensor]:
    return read_tensors(DAPE).tensors


def tagger(path: Path = RAM, lora: Path | None = None, **options: object) -> Tagger:
    settings = {"names": read_tag_list(LIST), "dtype": "float32", **options}
    return Tagger(read_tagger(path, lora), **settings)  # type: ignore[arg-type]  # the tests' own settings


def saved(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save(tensors, path)
    return path


def names_of(t: Tagger, image: Tensor = PICTURE, **options: bool) -> list[str]:
    return [tag.name for tag in t.look(image, **options).tags]


def test_in_full_size_it_is_the_published_network():
    with torch.device("meta"):
        net = Ram(SWIN_L)
    state = net.state_dict()
    assert (len(state), net.side_px) == (366, 384)
    assert round(sum(tensor.numel() for tensor in state.values()) / 1e6, 1) == 212.1


def test_the_list_is_rams():
    tags = ram_tags()
    assert len(tags.names) == len(set(tags.names)) == 4585
    assert sum(number >= 1 for number in tags.thresholds) == 10
    assert (tags.names[0], tags.thresholds[0]) == ("3D CG rendering", 0.65)


def test_tags_come_surest_first_above_their_own_thresholds():
    seen = tagger(max_tags=1000).look(PICTURE)
    assert (list(seen.tokens.shape), seen.tokens.dtype) == ([1, 145, 512], torch.float32)
    sure = [tag.probability for tag in seen.tags]
    assert sure == sorted(sure, reverse=True)
    assert len(set(sure)) > 10
    own = dict(zip(*(getattr(read_tag_list(LIST), key) for key in ("names", "thresholds")), strict=True))
    assert all(tag.probability > own[tag.name] for tag in seen.tags)
    assert tagger(max_tags=3).look(PICTURE).tags == seen.tags[:3]
    assert names_of(tagger(max_tags=3), reference=True) == sorted(
        names_of(tagger(max_tags=99), reference=True)
    )
    assert tagger(max_tags=0).look(PICTURE).tags == ()


def test_one_threshold_for_all_leaves_out_what_is_never_chosen():
    assert read_tag_list(LIST).thresholds[5] == 1
    every = names_of(tagger(threshold=0, max_tags=99))
    assert sorted(every) == [name for name in read_tag_list(LIST).names if name != "boat"]
    least = tagger(threshold=0, max_tags=99).look(PICTURE).tags[10]
    assert len(names_of(tagger(threshold=least.probability, max_tags=99))) == 10, "above, not at"


def test_shrinking_averages_but_not_in_reference_mode():
    stripes = torch.zeros(1, 3, 768, 768)
    stripes[..., ::2] = 1
    grey = prepare(torch.full((1, 3, 768, 768), 0.5), 384)
    assert (prepare(stripes, 384) - grey)[..., 2:-2].abs().max() < 1e-5
    t, black = tagger(), torch.zeros(1, 3, 1536, 64)
    lines = black.clone()
    lines[..., 3::4, :] = (
        1  # a cell lies between the second and the third of four rows: the last is never read
    )
    assert torch.equal(t.look(lines, reference=True).tokens, t.look(black, reference=True).tokens)
    assert (t.look(lines).tokens - t.look(black).tokens).abs().max() > 0.01
    thin = prepare(torch.full((1, 3, 1, 900), 0.5), 384)
    assert (thin - grey).abs().max() < 1e-5


def test_grey_and_alpha_are_seen_as_the_colours_alone():
    t = tagger()
    rgb = t.look(PICTURE[:, :1].expand(-1, 3, -1, -1))
    assert torch.equal(t.look(PICTURE[:, :1]).tokens, rgb.tokens)
    assert torch.equal(t.look(torch.cat([PICTURE, PICTURE[:, :1]], 1)).tokens, t.look(PICTURE).tokens)
    for shape in ((2, 3, 8, 8), (1, 2, 8, 8), (3, 8, 8), (1, 3, 0, 8)):
        with pytest.raises(ShapeError, match="one picture"):
            t.look(torch.zeros(shape))
    assert torch.equal(t.look(PICTURE * 9 - 4).tokens, t.look((PICTURE * 9 - 4).clamp(0, 1)).tokens)
    with pytest.raises(RangeError, match="NaN or infinity"):
        t.look(PICTURE * torch.nan)


def test_it_loads_for_the_first_picture_remembers_four_and_does_not_grow(monkeypatch: pytest.MonkeyPatch):
    t, calls = tagger(), []
    run = Ram.forward
    monkeypatch.setattr(Ram, "forward", lambda self, x: calls.append(1) or run(self, x))
    assert not t.loaded
    first = t.look(PICTURE)
    assert t.loaded
    assert torch.equal(t.look(PICTURE.clone()).tokens, first.tokens)
    assert len(calls) == 1, "the same content is looked at once"
    others = [torch.full((1, 3, 4, 4), i / 8) for i in range(REMEMBERED)]
    for image in others:
        t.look(image)
    assert len(calls) == 1 + REMEMBERED
    t.look(others[0])
    assert len(calls) == 1 + REMEMBERED
    t.look(PICTURE)
    assert len(calls) == 2 + REMEMBERED, "it was forgotten"
    t.look(others[0])
    assert len(calls) == 2 + REMEMBERED, "the one that was not asked for longest is forgotten"

    def tensors_alive() -> int:
        gc.collect()
        return sum(1 for thing in gc.get_objects() if isinstance(thing, Tensor))

    before = tensors_alive()
    for i in range(20):
        t.look(torch.full((1, 3, 4, 4), 0.5 + i / 64))
    assert tensors_alive() <= before

    net = weakref.ref(t._net)
    t.unload()
    gc.collect()
    assert net() is None
    assert not t.loaded
    count = len(calls)
    t.look(torch.full((1, 3, 4, 4), 0.5 + 19 / 64))
    assert not t.loaded, "an answer that is known needs no network"
    assert len(calls) == count


def test_half_precision_is_near_and_what_leaves_its_range_is_looked_at_again(
    tmp_path: Path, tensors: dict[str, Tensor]
):
    exact = tagger().look(PICTURE).tokens
    for dtype in ("bfloat16", "float16"):
        assert (tagger(dtype=dtype).look(PICTURE).tokens - exact).abs().mean() < 0.05
    large = tensors | {
        "fc.weight": tensors["fc.weight"].float() * 1e5,
        "image_proj.bias": tensors["image_proj.bias"].float(),
    }
    path = saved(tmp_path / "large.pth", large)
    assert names_of(tagger(path, dtype="float16")) == names_of(tagger(path))
    broken = saved(tmp_path / "nan.pth", tensors | {"fc.bias": torch.tensor([torch.nan])})
    with pytest.raises(WeightsError, match=r"nan\.pth: the tagger's answer is NaN"):
        tagger(broken).look(PICTURE)


def test_out_of_memory_goes_to_the_cpu_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch):
    t, real = tagger(), tagger_module.load_ram
    expected = names_of(tagger())
    asked: list[torch.dtype] = []

    def once(file: object, dtype: torch.dtype) -> Ram:
        asked.append(dtype)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(t.file, dtype)

    monkeypatch.setattr(tagger_module, "load_ram", once)
    t._device, t._dtype = torch.device("meta"), torch.float16  # a device that is not there
    assert names_of(t) == expected
    assert asked == [torch.float16, torch.float32]
    again = tagger()
    asked.clear()
    with pytest.raises(OutOfMemoryError, match="no room for the tagger"):
        again.look(PICTURE)

    def bug(*_: object) -> Ram:
        raise RuntimeError("a bug")

    monkeypatch.setattr(tagger_module, "load_ram", bug)
    with pytest.raises(RuntimeError, match="a bug"):
        again.look(PICTURE)


def test_gradients_reach_every_weight_and_the_picture():
    net = load_ram(read_tagger(RAM), torch.float32).requires_grad_(True)
    image = PICTURE.clone().requires_grad_(True)
    tokens, logits = net(prepare(image, net.side_px))
    (tokens.square().mean() + logits.square().mean()).backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    without = [
        name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert not without


def test_the_lora_adds_an_eighth_to_query_and_value_and_leaves_the_key(dape: dict[str, Tensor]):
    plain, adapted = (dict(read_tagger(RAM, lora).tensors()) for lora in (None, DAPE))
    module = "visual_encoder.layers.1.blocks.1.attn.qkv"
    down, up = (dape[f"{module}.lora_{letter}"].double() for letter in "AB")
    before, after = (state[f"{module}.weight"].double() for state in (plain, adapted))
    d = before.shape[1]
    for rows, a, b in (((0, d), down[:8], up[:d]), ((2 * d, 3 * d), down[8:], up[d:])):
        expected = before[slice(*rows)] + b @ a / 8
        torch.testing.assert_close(after[slice(*rows)], expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(after[d : 2 * d], before[d : 2 * d])
    changed = {name for name in plain if not torch.equal(plain[name].float(), adapted[name].float())}
    assert changed == {
        f"{name.removesuffix('.lora_A')}.weight"
        for name in dape
        if name.endswith("A") and name.startswith(("visual_encoder", "tagging_head"))
    }


def test_the_lora_comes_off_again(tmp_path: Path):
    plain = dict(read_tagger(RAM).tensors())
    list(read_tagger(RAM, DAPE).tensors())
    assert all(torch.equal(t, plain[name]) for name, t in read_tagger(RAM).tensors())
    merged = tmp_path / "merged.safetensors"
    save_file({name: t.float().clone() for name, t in read_tagger(RAM, DAPE).tensors()}, merged)
    for name, tensor in read_tagger(merged, DAPE, strength=-1).tensors():
        torch.testing.assert_close(tensor.float(), plain[name].float(), atol=1e-6, rtol=0)


def test_parts_of_the_lora_for_other_networks_are_not_read(tmp_path: Path, dape: dict[str, Tensor]):
    shared = {n: t + 1 if n.startswith(("tag_encoder", "text_decoder")) else t for n, t in dape.items()}
    other = saved(tmp_path / "DAPE.pth", shared)
    expected = dict(read_tagger(RAM, DAPE).tensors())
    assert all(torch.equal(t, expected[name]) for name, t in read_tagger(RAM, other).tensors())


def test_what_is_something_else_is_named(tmp_path: Path, tensors: dict[str, Tensor], dape: dict[str, Tensor]):
    one = torch.ones(1)
    small = {name: t[:, :4] if name.endswith("fc1.weight") else t for name, t in tensors.items()}
    for changes, message in (
        (tensors | {"reweight_scale": one}, r"got RAM\+\+"),
        (tensors | {"label_embed.weight": one}, "got Tag2Text"),
        (dape, "got a LoRA for the tagger"),
        ({"conv_in.weight": one}, r"got 1 \(conv_in\.weight\) other tensors"),
        ({n: t for n, t in tensors.items() if n != "fc.bias"}, r"lacks 1 \(fc\.bias\)"),
        (small, "8 tensors have another shape"),
    ):
        path = saved(tmp_path / "x.pth", changes)
        with pytest.raises((WeightsError, SpecMismatchError), match=message):
            read_tagger(path)
    qkv = "visual_encoder.layers.0.blocks.0.attn.qkv.lora_A"
    for changes, message in (
        ({"a": one}, "expected SeeSR's LoRA"),
        ({qkv: dape[qkv]}, "one of them"),
        (dape | {qkv: dape[qkv][:, :4]}, "other places or sizes in 1"),
        (dape | {"fc2.lora_A": one, "fc2.lora_B": one}, "other places or sizes in 1"),
        (dape | {qkv: dape[qkv] * torch.nan}, "NaN"),
    ):
        path = saved(tmp_path / "x.pth", changes)
        with pytest.raises((WeightsError, SpecMismatchError), match=message):
            read_tagger(RAM, path)
    with pytest.raises(
        SpecMismatchError, match="expected a tagger of 4585 labels, as RAM's tags has names, got 32"
    ):
        tagger(names=None)
    older = {n.replace("tagging_head.", "vision_multi."): t for n, t in tensors.items()}
    assert names_of(tagger(saved(tmp_path / "old.pth", older))) == names_of(tagger())


def test_a_list_that_does_not_fit_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"tag_list\.txt and thresholds\.txt"):
        read_tag_list(tmp_path)
    (tmp_path / "tag_list.txt").write_text("cat\ndog\n")
    for text, message in (("0.5\n", "for each of 2 tags, got 1"), ("0.5\nx\n", "'x'"), ("0.5\n2\n", "got 2")):
        (tmp_path / "thresholds.txt").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_tag_list(tmp_path)
    with pytest.raises(ConfigError, match="empty"):
        TagList(names=("",), thresholds=(0.5,), found_in="x")
    with pytest.raises(ConfigError, match=r"threshold(.|\n)*max_tags"):
        tagger(threshold=2, max_tags=-1)


def test_convert_writes_one_small_file_that_is_the_same_tagger(tmp_path: Path):
    out = tmp_path / "seesr_tagger.safetensors"
    convert_command(source=RAM, target=out, to=Target.tagger)
    assert out.stat().st_size < 0.7 * RAM.stat().st_size
    assert torch.equal(tagger(out).look(PICTURE).tokens, tagger().look(PICTURE).tokens), "float16 already"
    convert_command(source=RAM, target=out, to=Target.tagger, lora=DAPE, force=True)
    small = tagger(out)
    assert (small.look(PICTURE).tokens - tagger(lora=DAPE).look(PICTURE).tokens).abs().max() < 0.02
    assert small.file.spec.lora is not None
    assert "DAPE.pth" in small.file.spec.lora
    (tmp_path / "hypir").mkdir()
    shutil.copy(DAPE, tmp_path / "hypir")
    found = find_tagger(out, tag_list=LIST, comfy_models=[tmp_path])
    assert (found.tagger.label, found.notes) == (small.label, ()), "the LoRA is in it already"
    assert "with DAPE.pth" in find_tagger(RAM, tag_list=LIST, comfy_models=[tmp_path]).tagger.label
    assert locate_tagger(tmp_path) == out
    with pytest.raises(SpecMismatchError, match="merged into this tagger already"):
        tagger(out, DAPE)
    with pytest.raises(ConfigError, match=r"exists already(.|\n)*strength 2"):
        convert_tagger(RAM, out, strength=2)
    with pytest.raises(ConfigError, match=r"ending in \.safetensors"):
        convert_tagger(RAM, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match="base has no meaning"):
        convert_command(source=RAM, target=out, to=Target.tagger, base=RAM)
    with pytest.raises(ConfigError, match="lora only has a meaning for tagger"):
        convert_command(source=RAM, target=out, to=Target.kohya, lora=RAM)


def test_a_large_file_is_looked_into_not_read(tmp_path: Path, tensors: dict[str, Tensor]):
    """A file of 4 GiB as the published one: the model beside an optimiser's state; all but the tagger is a hole."""
    serialization = pytest.importorskip("torch.serialization")
    if not hasattr(serialization, "skip_data") or not sys.platform.startswith("linux"):
        pytest.skip("needs torch 2.6 to make a file with holes, and Linux to count memory")
    import mmap

    path = tmp_path / "ram.pth"
    unused = {f"text_decoder.{i}": torch.empty(1 << 28) for i in range(2)}
    state = {"state": {0: {"exp_avg": torch.empty(1 << 29), "step": 3}}, "param_groups": [{"lr": 1e-4}]}
    with serialization.skip_data():
        torch.save({"optimizer": state, "model": tensors | unused, "epoch": 7, "config": {"a": [1]}}, path)
    del unused, state
    with serialization.set_default_mmap_options(mmap.MAP_SHARED):
        for name, place in torch.load(path, mmap=True, weights_only=True)["model"].items():
            if name in tensors:
                place.copy_(tensors[name])
    assert path.stat().st_size > 4e9

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = _peak_bytes()
    t = tagger(path)
    assert names_of(t) == names_of(tagger())
    convert_tagger(path, tmp_path / "small.safetensors")
    assert _peak_bytes() - before < 300e6
    assert (tmp_path / "small.safetensors").stat().st_size < 1e6


def _peak_bytes() -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_the_captioner_says_the_tags_and_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    for name in ("HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr("hypir_core.weights.search.comfy_search.default_roots", lambda: ())
    options = {"file": str(RAM), "tag_list": LIST, "max_tags": 4, "dtype": "float32", "device": "cpu"}
    say = load_captioner("tags", {**options, "lora": str(DAPE)})
    assert say(PICTURE) == ", ".join(names_of(tagger(lora=DAPE, max_tags=4)))
    say.unload()
    assert load_captioner("tags", options)(PICTURE) == ", ".join(names_of(tagger(max_tags=4)))
    assert "without DAPE" in caplog.text
    caplog.clear()
    load_captioner("tags", {**options, "lora": "off"})(PICTURE)
    assert not caplog.text
    with pytest.raises(WeightsError, match=r"(?s)RAM.*download=true.*--option file="):
        load_captioner("tags", {})(PICTURE)
    with pytest.raises(WeightsError, match=r"(?s)DAPE.*nowhere\.pth.*lora=DAPE"):
        load_captioner("tags", {**options, "lora": str(tmp_path / "nowhere.pth")})(PICTURE)
    with pytest.raises(ConfigError, match=r"threshold(.|\n)*max_tags"):
        load_captioner("tags", {"threshold": 3, "max_tags": -1})


@pytest.mark.weights
def test_the_published_weights_name_the_cat_and_the_coffee():
    from hypir_core.errors import WeightsNotFoundError
    from hypir_core.files.picture import to_planes
    from hypir_core.files.reading import read_picture

    try:
        t = find_tagger(want_lora=False, dtype="float32").tagger
    except WeightsNotFoundError:
        pytest.skip("RAM's weights are not on this machine")
    examples = Path(tagger_module.__file__).parents[1] / "examples"
    for name in ("cat", "coffee"):
        color_01, _ = to_planes(read_picture(examples / f"{name}.jpg"))
        assert name in names_of(t, color_01)


def test_a_host_may_place_the_network():
    placed = []
    lent = tagger(place=placed.append)
    lent.look(PICTURE)
    lent.look(1 - PICTURE)
    assert len(placed) == 2  # before every look: a host may have taken it away
    assert placed[0] is placed[1]

    def full(_net: object) -> None:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(OutOfMemoryError, match="no room for the tagger"):
        tagger(place=full).look(PICTURE)
