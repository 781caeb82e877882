"""The one-step generator with a LoRA, on the tiny golden model."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hypir_core import ColorFix, Request, Runtime, TargetSize, load_engine, restore
from hypir_core.errors import ConfigError, HypirError, SpecMismatchError, WeightsNotFoundError
from hypir_core.lora.names import TARGET_MODULES
from hypir_core.models.sd.backbone import empty_unet
from hypir_core.models.sd.sd21 import SD21_UNET
from hypir_core.weights.spec import LoraSpec, spec_from_metadata
from hypir_core.weights.tensors import read_tensors
from tests.train.equality import assert_equal
from train.config import LossConfig, TrainConfig, load_config
from train.data.batch import Batch
from train.generators import Generator, build_generator
from train.generators.cut_prompts import CutPrompts
from train.generators.lora_layers import add_lora_
from train.players import trained_state
from train.run import checkpoint, precision
from train.run.building import Run, build
from train.run.checkpoint import newest_checkpoint
from train.run.export import write_weights
from train.run.recipe import train
from train.run.validation import using_weights

pytestmark = pytest.mark.tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def picture_01(golden: Path) -> Tensor:
    """[1 3 128 128]"""
    return load_file(golden / "hypir" / "case_3.safetensors")["lq_uint8"][..., :128, :128].float() / 255


@pytest.fixture
def tiny(golden: Path, photos: Path, tmp_path: Path):
    """Return a function from assignments to the config of a run on the golden model, alone or as it is."""

    def make(*assignments: str, steps: int = 4, out: str = "run", alone: bool = True) -> TrainConfig:
        needed = [f"base_model={golden / 'hypir' / 'model'}", f"data.root={photos}", f"max_steps={steps}"]
        config = load_config("tiny_cpu", [*needed, f"output_dir={tmp_path / out}", *assignments])
        return replace(config, discriminators={}, losses={"l2": LossConfig()}) if alone else config

    return make


def restored_by_the_engine(golden: Path, lora: Path, lq_01: Tensor, *, scale: float = 1, prompt: str = ""):
    engine = load_engine(
        "one-step",
        options={"base_model": str(golden / "hypir" / "model"), "lora": lora},
        device=CPU,
        dtype="float32",
    )
    request = Request(target=TargetSize(scale=scale), color_fix=ColorFix.none, prompt=prompt)
    return restore(engine, lq_01, request, Runtime()).image_01


@torch.no_grad()
def restored_by_the_trainer(generator: Generator, lq_01: Tensor, *, scale: int = 1, prompt: str = ""):
    n, _, h, w = lq_01.shape
    batch = Batch(torch.zeros(n, 3, h * scale, w * scale), lq_01, (prompt,) * n if prompt else ())
    return generator.restore(generator.module, batch).clamp(0, 1)


def with_random_factors(generator: Generator) -> None:
    """B starts at zero; give it numbers, so that the LoRA does something."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, factor in trained_state(generator.module).items():
            if "lora_B" in name:
                factor.copy_(torch.randn(factor.shape, generator=rng) * 0.05)


def test_the_full_model_trains_exactly_the_published_names_and_shapes():
    unet = empty_unet(SD21_UNET)
    own = len(list(unet.parameters()))
    add_lora_(unet, rank=256, targets=TARGET_MODULES)
    state = trained_state(unet)
    modules = {re.sub(r"\.lora_[AB]\.default\.weight$", "", name) for name in state}
    endings = {
        **dict.fromkeys(("to_q", "to_k", "to_v", "to_out.0"), 32),
        **dict.fromkeys(("conv1", "conv2"), 22), "conv_shortcut": 14, "conv": 6,
        **dict.fromkeys(("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"), 16), "conv_out": 1,
    }  # fmt: skip
    found = {end: sum(name == end or name.endswith(f".{end}") for name in modules) for end in endings}
    assert (len(state), len(modules)) == (514, 257)
    assert found == endings
    assert sum(tensor.numel() for tensor in state.values()) == 259_474_432
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    examples = {
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.default.weight": (256, 320),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.default.weight": (256, 1024),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_B.default.weight": (320, 256),
        "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.lora_B.default.weight": (2560, 256),
        "down_blocks.0.resnets.0.conv1.lora_A.default.weight": (256, 320, 3, 3),
        "down_blocks.0.resnets.0.conv1.lora_B.default.weight": (320, 256, 1, 1),
        "down_blocks.0.downsamplers.0.conv.lora_A.default.weight": (256, 320, 3, 3),
        "up_blocks.0.upsamplers.0.conv.lora_B.default.weight": (1280, 256, 1, 1),
        "up_blocks.0.resnets.0.conv_shortcut.lora_A.default.weight": (256, 2560, 1, 1),
        "mid_block.attentions.0.proj_in.lora_A.default.weight": (256, 1280),
        "conv_out.lora_B.default.weight": (4, 256, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in examples} == examples
    frozen = [name for name, p in unet.named_parameters() if not p.requires_grad]
    assert len(frozen) == own


def test_the_original_layout_is_written_tensor_for_tensor(tiny, tmp_path, golden):
    generator = build_generator(tiny(), CPU)
    with_random_factors(generator)
    state = trained_state(generator.module)
    config = tiny("export.licence=CC0", "export.trained_on=six waves")
    spec = generator.spec(config.export, "test")
    written = write_weights(tmp_path / "lora.safetensors", state, spec, original_pth=True)
    assert [path.name for path in written] == ["lora.safetensors", "lora.pth"]
    original = torch.load(tmp_path / "lora.pth", weights_only=True)
    published = torch.load(golden / "hypir" / "lora.pth", weights_only=True)
    assert {name: t.shape for name, t in original.items()} == {n: t.shape for n, t in published.items()}
    assert all(torch.equal(original[name], state[name]) for name in state)
    file = read_tensors(tmp_path / "lora.safetensors")
    found = spec_from_metadata(file.metadata, file.path)
    assert isinstance(found, LoraSpec)
    assert (found.rank, found.alpha, found.model_t, found.coeff_t) == (4, 4.0, 200, 200)
    assert (found.base_model, found.licence) == ("model", "CC0")
    assert found.trained_with == "test, data: six waves"


@pytest.mark.parametrize(("scale", "prompt"), [(1, ""), (4, ""), (1, "a photo of the cat")])
def test_the_trainer_computes_what_the_engine_computes(tiny, golden, picture_01, scale, prompt):
    lora = golden / "hypir" / "lora.pth"
    lq_01 = picture_01[..., : 128 // scale, : 128 // scale]
    generator = build_generator(
        tiny(f"generator.options.lora={lora}", f"generator.options.scale={scale}"), CPU
    )
    own = restored_by_the_trainer(generator, lq_01, scale=scale, prompt=prompt)
    engines = restored_by_the_engine(golden, lora, lq_01, scale=scale, prompt=prompt)
    assert own.std() > 0.02
    # Merged and unmerged weights round differently; this LoRA is large, the noise of the data itself 2e-5.
    torch.testing.assert_close(own, engines, atol=3e-5, rtol=0)


def test_a_prompt_matters_and_every_picture_has_its_own(tiny, golden, picture_01):
    generator = build_generator(tiny(f"generator.options.lora={golden / 'hypir' / 'lora.pth'}"), CPU)
    pair = picture_01.expand(2, -1, -1, -1)
    with torch.no_grad():
        both = generator.restore(generator.module, Batch(pair, pair, ("", "coffee")))
    none, coffee = (
        restored_by_the_trainer(generator, picture_01, prompt=prompt) for prompt in ("", "coffee")
    )
    torch.testing.assert_close(both.clamp(0, 1), torch.cat([none, coffee]), atol=2e-4, rtol=0)
    assert (none - coffee).abs().max() > 1e-3


def test_prompts_that_are_cut_are_counted_and_told_once(tiny, photos, tmp_path, caplog):
    prompts = ["", "a photo of the cat", "\n".join(["the cat"] * 60), "coffee " * 90]
    lines = [{"path": f"{n}.png", "prompt": prompt} for n, prompt in enumerate(prompts)]
    table = tmp_path / "list.jsonl"
    table.write_text("\n".join(json.dumps(line) for line in lines))
    rows = [f"data.root={table}", f"data.source.path_prefix={photos}", "data.source.prompt_column=prompt"]
    train(tiny(*rows, "tracking.every=2", steps=4))
    said = [record.message for record in caplog.records if "cut" in record.message]
    assert len(said) == 1
    assert re.fullmatch(
        r"step 2  2 of 3 different prompts seen so far were cut, for instance '(the cat|coffee) .{72,73} …': the prompt "
        r"is longer than 75 tokens: its last \d+ tokens were not used",
        said[0],
    )


def test_prompts_are_counted_once_each():
    from hypir_core.models.sd.prompt import PromptTokens

    fields = dict.fromkeys(PromptTokens.__dataclass_fields__) | {"dropped": 0}
    whole, cut = PromptTokens(**fields), PromptTokens(**(fields | {"dropped": 3}))
    counted = CutPrompts()
    for _ in range(5):
        for prompt, tokens in (("", whole), ("a cat", whole), ("a dog " * 60, cut)):
            counted.count(prompt, tokens)
    (said,) = counted.notes()
    assert said.startswith("1 of 2 different prompts seen so far were cut")
    assert counted.notes() == ()


def test_prompts_that_fit_are_not_remarked_on(tiny, picture_01):
    generator = build_generator(tiny(), CPU)
    for prompt in ("", "a photo of the cat"):
        restored_by_the_trainer(generator, picture_01, prompt=prompt)
    assert generator.notes() == ()


def test_only_the_factors_learn_and_a_fresh_one_changes_nothing(tiny, golden, picture_01, tmp_path):
    run = build(tiny())
    before = {name: p.clone() for name, p in run.player.module.named_parameters()}
    plain = restored_by_the_engine(golden, zero_lora(run, tmp_path), picture_01)
    torch.testing.assert_close(restored_by_the_trainer(run.generator, picture_01), plain, atol=3e-5, rtol=0)
    train(tiny(steps=2))
    changed = build(tiny(steps=2)).player.module
    moved = {name for name, p in changed.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all(".lora_" in name for name in moved)


def zero_lora(run: Run, folder: Path) -> Path:
    spec = run.generator.spec(run.config.export, "test")
    (path,) = write_weights(folder / "fresh.safetensors", trained_state(run.player.module), spec)
    return path


def test_checkpointed_gradients_are_the_gradients(tiny, picture_01):
    gradients = []
    for again in ("true", "false"):
        generator = build_generator(tiny(f"generator.options.gradient_checkpointing={again}"), CPU)
        torch.manual_seed(0)
        with_random_factors(generator)
        state = {n: p for n, p in generator.module.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for _, factor in sorted(state.items()):
                factor.copy_(torch.randn(factor.shape) * 0.05)
        generator.restore(generator.module, Batch(picture_01, picture_01)).square().mean().backward()
        gradients.append({name: p.grad for name, p in state.items()})
    kept, computed_again = gradients
    assert all(torch.any(gradient != 0) for gradient in kept.values())
    for name, gradient in kept.items():
        torch.testing.assert_close(computed_again[name], gradient)


def test_frozen_weights_are_bf16_and_factors_float32(tiny, monkeypatch):
    monkeypatch.setattr(precision, "cpu_bfloat16_units", lambda: "AMX")  # without units it is float32
    config = tiny("precision=bf16", "generator.optimiser.lr=3e-3", steps=8)
    run = build(config)
    formats = {p.requires_grad: p.dtype for p in run.player.module.parameters()}
    assert formats == {True: torch.float32, False: torch.bfloat16}
    train(config)
    assert losses_of(config.output_dir, "l2")[-1] < losses_of(config.output_dir, "l2")[0]


def losses_of(run_dir: Path, name: str) -> list[float]:
    rows = (line.split(",") for line in (run_dir / "scalars.csv").read_text().splitlines()[1:])
    return [float(value) for _, row_name, value in rows if row_name == f"loss/{name}"]


@pytest.mark.slow
def test_twenty_steps_in_two_goes_are_twenty_steps_and_what_is_exported_restores_the_same(
    tiny, golden, picture_01, tmp_path
):
    often = ("checkpoint.every=10", "tracking.every=4")
    straight = tiny(*often, steps=20, out="straight", alone=False)
    train(straight)
    half_way = Path("checkpoints", "step-00000010")
    shutil.copytree(tmp_path / "straight" / half_way, tmp_path / "parted" / half_way)
    train(tiny(*often, steps=20, out="parted", alone=False))
    for name in ("generator.safetensors", "generator_ema.safetensors"):
        one, two = (load_file(tmp_path / run / name) for run in ("straight", "parted"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert_equal(*(players_of(tmp_path / run) for run in ("straight", "parted")))
    for name in ("l2", "lpips", "clip_own"):
        values = losses_of(straight.output_dir, name)
        assert len(values) == 5
        assert values[-1] < values[0], name

    run = build(straight)
    exported = restored_by_the_engine(golden, tmp_path / "straight" / "generator_ema.safetensors", picture_01)
    with using_weights(run.player.module, run.player.ema.shadow):
        average = restored_by_the_trainer(run.generator, picture_01)
    raw = restored_by_the_trainer(run.generator, picture_01)
    torch.testing.assert_close(exported, average, atol=3e-5, rtol=0)
    assert (exported - raw).abs().max() > 1e-4


def players_of(run_dir: Path) -> dict:
    newest = newest_checkpoint(run_dir)
    assert newest is not None
    assert newest.name == "step-00000020"
    return torch.load(newest / "players.pt", weights_only=True)


def test_a_checkpoint_holds_only_what_is_trained(tiny):
    config = tiny("generator.options.rank=32", steps=1)
    train(config)
    newest = newest_checkpoint(config.output_dir)
    assert newest is not None
    state = torch.load(newest / "players.pt", weights_only=True)["generator"]
    lora = sum(t.numel() * t.element_size() for t in state["weights"].values())
    moments = sum(
        t.numel() * t.element_size() for each in state["optimiser"]["state"].values() for t in each.values()
    )
    assert all(".lora_" in name for name in state["weights"])
    written = sum(path.stat().st_size for path in newest.iterdir())
    assert moments >= 2 * lora
    assert written <= 2.2 * (lora + moments)


def test_interrupted_while_writing_goes_on_from_the_checkpoint_before(tiny, tmp_path, monkeypatch):
    every = "checkpoint.every=1"
    train(tiny(every, steps=2, out="straight"))
    real_write = checkpoint._write

    def stop_half_way(path: Path, content) -> None:
        real_write(path, content)
        if path.name == "players.pt" and "step-00000002" in str(path):
            path.write_bytes(path.read_bytes()[:1000])
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "_write", stop_half_way)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(every, steps=2, out="parted"))
    monkeypatch.undo()
    newest = newest_checkpoint(tmp_path / "parted")
    assert newest is not None
    assert newest.name == "step-00000001"
    train(tiny(every, steps=2, out="parted"))
    one, two = (load_file(tmp_path / run / "generator_ema.safetensors") for run in ("straight", "parted"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_validation_measures_the_middle_and_each_terms_gradient_can_be_seen(tiny, photos):
    config = tiny(
        f"validation.root={photos}", "validation.every=2", "validation.count=1", "validation.recipes=[light]",
        "validation.most_px=70", "tracking.loss_gradients_every=1", "tracking.loss_gradients_of=[conv_out]",
        "tracking.every=1", steps=2,
    )  # fmt: skip
    run = build(config)
    assert run.pairs is not None
    assert [tuple(batch.hq.shape) for batch in run.pairs.by_recipe["light"]] == [(1, 3, 64, 64)]
    train(config)
    text = (config.output_dir / "scalars.csv").read_text()
    assert "val/light/psnr_y" in text
    assert "gradient/l2" in text
    with pytest.raises(ConfigError, match=r"tracking\.loss_gradients_of: .* nowhere"):
        train(replace(config, tracking=replace(config.tracking, loss_gradients_of=("nowhere",)), max_steps=3))


def test_a_warm_start_takes_the_rank_of_the_file_and_refuses_what_does_not_fit(tiny, golden, tmp_path):
    lora = golden / "hypir" / "lora.pth"
    start = f"generator.options.lora={lora}"
    generator = build_generator(tiny(start, "generator.options.rank=null"), CPU)
    published = torch.load(lora, weights_only=True)
    assert_equal({n: t.clone() for n, t in trained_state(generator.module).items()}, published)
    with pytest.raises(ConfigError, match=r"generator\.options\.rank: .* rank 4, the options say 8"):
        build_generator(tiny(start, "generator.options.rank=8"), CPU)
    with pytest.raises(ConfigError, match=r"generator\.options\.(model_t|coeff_t): .* 200"):
        build_generator(tiny(start, "generator.options.model_t=100"), CPU)
    published.pop(next(iter(published)))
    torch.save(published, tmp_path / "half.pth")
    with pytest.raises(SpecMismatchError, match="without down"):
        build_generator(tiny(f"generator.options.lora={tmp_path / 'half.pth'}"), CPU)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["base_model=nowhere"], r"base_model: .*\n.*nowhere"),
        (["generator.options.lora=no.pth"], r"(?s)generator\.options\.lora: .*no\.pth"),
        (["generator.options.rang=4"], r"generator\.options: unknown key 'rang' \(did you mean 'rank'\?\)"),
        (["generator.options.rank=0"], r"rank must be 1 or more"),
        (["generator.options.target_modules=[to_x]"], r"target_modules: no module .* to_x"),
        (["data.crop_px=40"], r"data\.crop_px: 40 must divide by 64"),
    ],
)
def test_what_does_not_fit_is_named(tiny, assignments, message):
    with pytest.raises(HypirError, match=message):
        build(tiny(*assignments))


def test_missing_weights_offline_are_one_error(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WeightsNotFoundError, match=r"(?s)base_model: .*set base_model=PATH"):
        build(tiny("base_model=null"))
    with pytest.raises(WeightsNotFoundError, match=r"(?s)generator\.options\.lora: .*then set it"):
        build(tiny("generator.options.lora=auto"))


def test_another_base_model_is_refused_on_resume(tiny, golden, tmp_path):
    train(tiny(steps=1))
    other = tmp_path / "other"
    shutil.copytree(golden / "hypir" / "model", other)
    weights = other / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_norm_out.bias"] = tensors["conv_norm_out.bias"] + 1
    save_file(tensors, weights)
    with pytest.raises(ConfigError, match=r"base_model \(hash"):
        build(tiny(f"base_model={other}"))
