"""SeeSR's image blocks and ControlNet, trained on the tiny golden models."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.errors import ConfigError, HypirError, WeightsNotFoundError
from hypir_core.models.sd.image_blocks import MARK
from hypir_core.tags.find import find_tagger
from hypir_core.tiling.geometry import Plane
from hypir_core.weights.seesr_spec import SeesrSpec
from hypir_core.weights.spec import spec_from_metadata
from hypir_core.weights.tensors import read_tensors
from tests.train.equality import assert_equal
from train.__main__ import main
from train.config import TrainConfig, load_config
from train.data.batch import Batch
from train.generators import build_generator
from train.options import check_files, check_options
from train.run import precision
from train.run.building import build
from train.run.memory import count_kept
from train.run.recipe import train
from train.tasks import build_task

pytestmark = pytest.mark.tiny

CPU = torch.device("cpu")
PLAIN = Request(target=TargetSize(scale=1))
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def tiny(golden: Path, photos: Path, tmp_path: Path):
    """Return a function from assignments to the config of a run on the golden models."""

    def make(*assignments: str, steps: int = 2, out: str = "run") -> TrainConfig:
        needed = [f"base_model={golden / 'seesr' / 'sd2-base'}", f"data.root={photos}", f"max_steps={steps}"]
        return load_config("tiny_cpu_seesr", [*needed, f"output_dir={tmp_path / out}", *assignments])

    return make


@pytest.fixture
def published(golden: Path) -> str:
    """The assignment that starts from the golden set's blocks, all of which say something."""
    return f"generator.options.seesr={golden / 'seesr' / 'seesr'}"


def batch_of(count: int = 2, *, side_px: int = 64, prompts: tuple[str, ...] = ()) -> Batch:
    rng = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 4, 4, generator=rng)
    hq = torch.nn.functional.interpolate(coarse, (side_px, side_px), mode="bicubic").clamp(0, 1)
    return Batch(hq, (hq + 0.05 * torch.randn(hq.shape, generator=rng)).clamp(0, 1), prompts)


def error_of(config: TrainConfig, batch: Batch, *, step: int = 0):
    """Return the module and the error of one pass."""
    generator = build_generator(config, CPU)
    attempt = build_task(config, generator).attempt(generator.module, batch, step)
    ((_, error),) = attempt.terms.values()
    return generator.module, error


def scalars(config: TrainConfig, name: str) -> list[float]:
    rows = (line.split(",") for line in (config.output_dir / "scalars.csv").read_text().splitlines()[1:])
    return [float(value) for _, found, value in rows if found == name]


def test_a_fresh_one_says_what_the_base_model_says(tiny):
    module = build_generator(tiny(), CPU).module
    rng = torch.Generator().manual_seed(0)
    x, words, tokens = (
        torch.randn(*shape, generator=rng) for shape in ((2, 4, 8, 8), (2, 77, 32), (2, 5, 512))
    )
    t = torch.tensor([20, 900])
    with torch.no_grad():
        plain = module.unet(x, t, (words, None), return_dict=False)[0]
        assert torch.equal(module(x, t, words, tokens, torch.rand(2, 3, 64, 64, generator=rng)), plain)


@pytest.mark.parametrize("again", ["true", "false"])
def test_gradients_reach_every_image_block_and_the_whole_controlnet_and_nothing_else(tiny, published, again):
    config = tiny(published, f"generator.options.gradient_checkpointing={again}")
    module, error = error_of(config, batch_of(1, side_px=128))  # attention of one cell has no gradient
    error.backward()
    with_gradient = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    learning = {n for n, p in module.named_parameters() if n.startswith("controlnet.") or ".image." in n}
    assert with_gradient == learning
    blocks = [n for n in learning if n.startswith("unet.")]
    file = read_tensors(Path(config.generator.options["seesr"]) / "unet" / WEIGHTS)
    assert len(blocks) == sum(MARK in name for name in file.tensors)


def test_checkpointed_gradients_are_the_gradients_and_take_less_memory(tiny, published):
    found = []
    for again in ("true", "false"):
        config = tiny(published, f"generator.options.gradient_checkpointing={again}")
        generator = build_generator(config, CPU)
        task = build_task(config, generator)
        with count_kept(generator.module.parameters()) as kept:
            ((_, error),) = task.attempt(generator.module, batch_of(), 0).terms.values()
            error.backward()
        gradients = {n: p.grad for n, p in generator.module.named_parameters() if p.grad is not None}
        found.append((kept.peak_bytes, gradients))
    (less, again), (more, plain) = found
    assert less < 0.6 * more
    assert again.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-6)


def test_words_come_from_the_data_or_from_the_tagger_and_are_left_out_now_and_then(tiny, published):
    def error(*words: str, prompts: tuple[str, ...] = ()) -> Tensor:
        assignments = [published, "denoising.condition_dropout=0", *words]
        return error_of(tiny(*assignments), batch_of(prompts=prompts))[1].detach()

    data = "generator.options.tags=data"
    none, cat, by_tagger = error(data), error(data, prompts=("the cat", "coffee")), error()
    assert len({float(none), float(cat), float(by_tagger)}) == 3
    options = tiny().generator.options
    tagger = find_tagger(options["tagger"], options["tagger_lora"], tag_list=Path(options["tag_list"])).tagger
    tags = tuple(", ".join(tag.name for tag in tagger.look(each[None]).tags) for each in batch_of().hq)
    torch.testing.assert_close(error(data, prompts=tags), by_tagger)
    left_out = error_of(tiny(published, "denoising.condition_dropout=1"), batch_of())[1].detach()
    torch.testing.assert_close(left_out, none)


@pytest.mark.parametrize("worded", [False, True])
def test_pictures_that_all_come_without_words_are_told_once(tiny, worded):
    generator = build_generator(tiny("generator.options.tags=data"), CPU)
    latents, batch, everyone = generator.latents, batch_of(), torch.ones(2, dtype=torch.bool)
    assert latents is not None
    if worded:
        latents.ask(generator.module, batch_of(prompts=("", "the cat")), everyone)
    for _ in range(16):
        latents.ask(generator.module, batch, everyone)
    said = generator.notes()
    told = [note for note in said if "none of the first 32 pictures came with words" in note]
    assert len(told) == (0 if worded else 1)
    assert all("--write-sidecar" in note and "tags=tagger" in note for note in told)
    assert generator.notes() == ()


@pytest.mark.slow
def test_it_learns_and_what_is_exported_is_better_on_pictures_it_has_not_seen(tiny, golden, tmp_path):
    """Loss falls, the export loads into the engine, which predicts what the trainer did, and better than before."""
    held_out = tmp_path / "held-out"
    held_out.mkdir()
    y, x = np.mgrid[0:64, 0:64] / 8
    for n in range(2):
        wave = np.stack([np.sin((0.5 + 0.3 * n) * y + c) * np.cos(0.8 * x) for c in range(3)], -1) * 0.4 + 0.5
        Image.fromarray((wave * 255).astype(np.uint8)).save(held_out / f"{n}.png")
    validation = f"validation={{root: {held_out}, recipes: [light], every: 40, count: 2}}"
    config = tiny(
        validation, "data.batch_size=2", "tracking.every=5", "generator.optimiser.lr=5e-3",
        "generator.options.gradient_checkpointing=false", steps=40,
    )  # fmt: skip
    train(config)
    losses = scalars(config, "loss/eps")
    assert losses[-1] < 0.85 * losses[0]
    for share in ("0.1", "0.5", "0.9"):
        before, after = scalars(config, f"val/light/eps_t{share}")
        assert after < 0.9 * before, share

    run = build(config)  # the checkpoint of the last step
    folder = config.output_dir / "generator"
    engine = engine_with(folder, golden)
    lq_01 = batch_of(1).lq
    prepared = engine.prepare(Plane(lq_01), (64, 64), PLAIN)
    told, canvas_01, step = prepared.condition.value, prepared.plane.data, engine.steps[0]
    z = torch.randn(
        1, 4, *(side // 8 for side in prepared.plane.sizes_px), generator=torch.Generator().manual_seed(2)
    )
    with torch.no_grad():
        theirs = engine.denoiser.predict(z, step, told, {"control": canvas_01})
        ours = run.player.module(z, torch.tensor([step.t]), told.words, told.tokens, canvas_01)
    torch.testing.assert_close(theirs, ours, atol=2e-5, rtol=1e-4)
    assert torch.isfinite(restore(engine, lq_01, PLAIN, Runtime()).image_01).all()


def engine_with(folder: Path, golden: Path):
    options = {
        "base_model": str(golden / "seesr" / "sd2-base"),
        "seesr": str(folder),
        "tagger": str(golden / "seesr" / "ram" / "ram_swin_large_14m.pth"),
        "tagger_lora": str(golden / "seesr" / "ram" / "DAPE.pth"),
        "tag_list": str(golden / "seesr" / "ram"),
        "process_px": 64,
        "steps": 2,
        "spacing": "trailing",
        "words": "",
    }
    return load_engine("seesr", options=options, device=CPU, dtype="float32")


def test_the_files_are_laid_out_and_named_as_the_published_ones(tiny, golden, published, tmp_path):
    config = tiny(published, "export.licence=CC0", "export.trained_on=waves", steps=1)
    train(config)
    for part in ("unet", "controlnet"):
        own = read_tensors(config.output_dir / "generator_ema" / part / WEIGHTS)
        theirs = read_tensors(golden / "seesr" / "seesr" / part / WEIGHTS)
        wanted = {n: t.shape for n, t in theirs.tensors.items() if part == "controlnet" or MARK in n}
        assert {name: t.shape for name, t in own.tensors.items()} == wanted
        spec = spec_from_metadata(own.metadata, own.path)
        assert isinstance(spec, SeesrSpec)
        assert (spec.base_model, spec.licence, spec.trained_on) == ("sd2-base", "CC0", "waves")
        assert "DAPE" in spec.tagger
    assert main(["export", str(config.output_dir), "-o", str(tmp_path / "mine.safetensors")]) == 0
    for file in (f"unet/{WEIGHTS}", f"controlnet/{WEIGHTS}", "controlnet/config.json"):
        assert (tmp_path / "mine" / file).read_bytes() == (
            config.output_dir / "generator_ema" / file
        ).read_bytes()


def test_four_steps_in_two_goes_are_four_steps(tiny, published, tmp_path):
    fast = ("generator.options.gradient_checkpointing=false", "data.batch_size=2", "checkpoint.every=2")
    train(tiny(published, *fast, "accumulation=2", steps=4, out="straight"))
    half_way = Path("checkpoints", "step-00000002")
    shutil.copytree(tmp_path / "straight" / half_way, tmp_path / "parted" / half_way)
    train(tiny(published, *fast, "accumulation=2", steps=4, out="parted"))
    for part in ("unet", "controlnet"):
        one, two = (
            read_tensors(tmp_path / run / "generator" / part / WEIGHTS).tensors
            for run in ("straight", "parted")
        )
        assert_equal(dict(one), dict(two))


def test_every_pass_of_a_step_draws_its_own_noise_and_the_same_again(tiny, published):
    config = tiny(published, "accumulation=2")
    generator = build_generator(config, CPU)
    batch = batch_of()

    def errors() -> list[float]:
        task = build_task(config, generator)
        return [
            float(error.detach())
            for step in (0, 0, 1)
            for _, error in task.attempt(generator.module, batch, step).terms.values()
        ]

    first = errors()
    assert len(set(first)) == 3
    assert errors() == first


def test_frozen_weights_are_bf16_and_what_learns_is_float32(tiny, published, monkeypatch):
    monkeypatch.setattr(precision, "cpu_bfloat16_units", lambda: "AMX")  # without units it is float32
    config = tiny(published, "precision=bf16", "data.batch_size=2", steps=2)
    run = build(config)
    formats = {(p.requires_grad, p.dtype) for p in run.player.module.parameters()}
    assert formats == {(True, torch.float32), (False, torch.bfloat16)}
    train(config)
    assert np.isfinite(scalars(config, "loss/eps")).all()


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("task=gan", "expected denoising, got gan"),
        ("export.original_pth=true", "only a LoRA has an original layout"),
        ("data.source.kind=scenes", "takes pictures in [0,1], got scenes"),
        ("generator.options.tagger=nowhere.pth", "generator.options.tagger: "),
        ("generator.options.seesr=nowhere", "generator.options.seesr: "),
        ("base_model=nowhere", "base_model: "),
    ],
)
def test_what_does_not_go_with_it_or_is_not_there_is_named_first(tiny, assignment, words):
    losses = "losses={l1: {weight: 1}}" if assignment == "task=gan" else "losses={}"
    config = tiny(assignment, losses)
    with pytest.raises((ConfigError, WeightsNotFoundError)) as caught:
        check_files(config)
    assert words in str(caught.value)


def test_a_setting_that_is_not_read_is_an_error(tiny):
    config = tiny(
        "denoising.schedule=linear", "denoising.guide=true", "losses.l1.weight=1", "discriminators.d.name=patch",
        "strategy.name=progressive",
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        build_task(config, build_generator(config, CPU))
    said = str(caught.value)
    for words in ("denoising.schedule, denoising.guide: not read", "losses: not read", "discriminators: not read",
                  "strategy.name: expected plain"):  # fmt: skip
        assert words in said


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("tagz=data", "did you mean 'tags'"),
        ("threshold=2", "threshold must lie in [0, 1], got 2"),
        ("tags=data generator.options.max_tags=3", "threshold and max_tags are not read with tags: data"),
    ],
)
def test_wrong_options_are_named(tiny, option, words):
    with pytest.raises(HypirError) as caught:
        check_options(tiny(*f"generator.options.{option}".split(" ")))
    assert words in str(caught.value)


def test_files_of_another_kind_are_named(tiny, golden, tmp_path):
    plain = tmp_path / "plain"
    for part in ("unet", "controlnet"):
        (plain / part).mkdir(parents=True)
        shutil.copy(golden / "seesr" / "sd2-base" / "unet" / WEIGHTS, plain / part / WEIGHTS)
    with pytest.raises(WeightsNotFoundError, match="image_attentions"):
        check_files(tiny(f"generator.options.seesr={plain}"))
