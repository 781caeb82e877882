"""A LoRA of the tagger, trained on the tiny golden tagger to see through damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from hypir_core import load_engine
from hypir_core.degrade.apply import degrade
from hypir_core.degrade.recipe import load_recipe
from hypir_core.errors import ConfigError, SpecMismatchError, WeightsNotFoundError
from hypir_core.tags.convert import convert_tagger
from hypir_core.tags.files import load_ram, read_tagger
from hypir_core.tags.find import find_tagger
from hypir_core.weights.spec import spec_from_metadata
from hypir_core.weights.tagger_lora_spec import TaggerLoraSpec
from hypir_core.weights.tensors import read_tensors
from train.config import TrainConfig, load_config
from train.data.batch import Batch
from train.generators import build_generator
from train.options import check_files, check_options
from train.run.building import build
from train.run.recipe import train
from train.tasks import build_task

pytestmark = pytest.mark.tiny

CPU = torch.device("cpu")


@pytest.fixture
def ram(golden: Path) -> Path:
    return golden / "seesr" / "ram"


@pytest.fixture
def tiny(photos: Path, tmp_path: Path):
    """Return a function from assignments to the config of a run on the golden tagger."""

    def make(*assignments: str, steps: int = 2, out: str = "run") -> TrainConfig:
        needed = [f"data.root={photos}", f"max_steps={steps}", f"output_dir={tmp_path / out}"]
        return load_config("tiny_cpu_tagger", [*needed, *assignments])

    return make


FADED = """
stage1:
  blur: {prob: 1, sigma: [1, 1.4], sinc_prob: 0}
  noise: {prob: 1, gaussian_prob: 1, sigma: [4, 6]}
fade: {prob: 1, black: [0.25, 0.35], white: [0.75, 0.85], grey: [0, 0.2], warmth: [0, 0.2]}
final_modes: [bicubic_antialias]
"""
"""Damage that a few steps can learn to see through: much the same for every picture."""


@pytest.fixture
def faded(tmp_path: Path) -> Path:
    path = tmp_path / "faded.yaml"
    path.write_text(FADED)
    return path


def held_out(count: int = 2, recipe: Path | None = None) -> Batch:
    """Pictures of other kinds than the training's, damaged alike."""
    rng = torch.Generator().manual_seed(11)
    hq = F.interpolate(torch.rand(count, 3, 7, 7, generator=rng), (64, 64), mode="bicubic").clamp(0, 1)
    if recipe is None:
        return Batch(hq, (0.5 * hq + 0.3).clamp(0, 1))
    return Batch(hq, degrade(hq, load_recipe(recipe), generator=rng, out_hw=(64, 64)).lq_01)


def seen(ram: Path, lora: Path | None, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens and probabilities as the engine's tagger gives them."""
    found = find_tagger(
        ram / "ram_swin_large_14m.pth", lora, want_lora=False, tag_list=ram, threshold=0.0, max_tags=99
    )
    looked = [found.tagger.look(picture[None]) for picture in pictures]
    names = sorted(tag.name for tag in looked[0].tags)
    sure = [[{t.name: t.probability for t in one.tags}[name] for name in names] for one in looked]
    return torch.cat([one.tokens for one in looked]), torch.tensor(sure)


def distances(found, tokens: torch.Tensor, sure: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the task measures: of the tokens, and of the tags above their own entropy."""
    between = F.binary_cross_entropy
    return F.mse_loss(found[0], tokens), between(found[1], sure) - between(sure, sure)


def scalars(config: TrainConfig, name: str) -> list[float]:
    rows = (line.split(",") for line in (config.output_dir / "scalars.csv").read_text().splitlines()[1:])
    return [float(value) for _, found, value in rows if found == name]


@pytest.mark.slow
def test_it_learns_and_the_engines_tagger_sees_damaged_pictures_more_like_clean_ones(
    tiny, ram, golden, faded
):
    """The loss falls; the export loads as DAPE does; on pictures it has not seen it is nearer than without."""
    config = tiny(f"data.degrade=[{{recipe: {faded}}}]", "tracking.every=1", steps=40)
    train(config)
    losses = scalars(config, "loss/tokens")
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])
    assert scalars(config, "loss/tags")

    export = config.output_dir / "generator_ema.safetensors"
    batch = held_out(recipe=faded)
    tokens, sure = seen(ram, None, batch.hq)
    before, after = (seen(ram, lora, batch.lq) for lora in (None, export))
    assert F.mse_loss(after[0], tokens) < 0.7 * F.mse_loss(before[0], tokens)
    assert sum(map(float, distances(after, tokens, sure))) < sum(map(float, distances(before, tokens, sure)))

    run = build(config)  # the checkpoint of the last step
    raw = config.output_dir / "generator.safetensors"
    net = load_ram(read_tagger(ram / "ram_swin_large_14m.pth", raw), torch.float32)
    sight = run.generator.sight
    assert sight is not None
    with torch.no_grad():
        for one, other in zip(sight.see(net, batch.lq), sight.see(run.player.module, batch.lq), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    options = {
        "base_model": str(golden / "seesr" / "sd-turbo"),
        "seesr": str(golden / "seesr" / "seesr"),
        "tagger": str(ram / "ram_swin_large_14m.pth"),
        "tagger_lora": str(export),
        "tag_list": str(ram),
    }
    assert export.name in load_engine("seesr", options, device=CPU, dtype="float32").spec.weights


def test_the_file_is_laid_out_as_the_published_one(tiny, ram):
    config = tiny("export.licence=CC0", "export.trained_on=waves", steps=1)
    train(config)
    file = read_tensors(config.output_dir / "generator.safetensors")
    published = {
        name: tensor.shape
        for name, tensor in read_tensors(ram / "DAPE.pth").tensors.items()
        if name.startswith(("visual_encoder.", "tagging_head."))
    }
    assert {name: tensor.shape for name, tensor in file.tensors.items()} == published
    spec = spec_from_metadata(file.metadata, "file")
    assert isinstance(spec, TaggerLoraSpec)
    assert (spec.rank, spec.licence, spec.trained_on) == (8, "CC0", "waves")
    assert spec.tagger.startswith("ram_swin_large_14m.pth ")


def test_a_fresh_one_changes_nothing_and_only_the_lora_learns(tiny, ram):
    config = tiny()
    generator = build_generator(config, CPU)
    sight, batch = generator.sight, held_out(2)
    assert sight is not None
    with torch.no_grad():
        for one, other in zip(sight.see(generator.module, batch.lq), sight.clean(batch.lq), strict=True):
            assert torch.equal(one, other)
    attempt = build_task(config, generator).attempt(generator.module, batch, 0)
    sum(weight * term for weight, term in attempt.terms.values()).backward()
    with_gradient = {n for n, p in generator.module.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == {n for n, _ in generator.module.named_parameters() if n.endswith("lora_B")}
    assert all(p.grad is None for net in generator.frozen for p in net.parameters())

    begun = build_generator(tiny(f"generator.options.start={ram / 'DAPE.pth'}"), CPU)
    assert begun.sight is not None
    net = load_ram(read_tagger(ram / "ram_swin_large_14m.pth", ram / "DAPE.pth"), torch.float32)
    with torch.no_grad():
        for one, other in zip(
            begun.sight.see(begun.module, batch.lq), begun.sight.see(net, batch.lq), strict=True
        ):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["task=gan", "losses.l1.weight=1"], "expected tagging, got gan"),
        (["base_model=x"], "base_model: tagger_lora has none"),
        (["export.original_pth=true"], "export.original_pth"),
        (["generator.options.tagger=nowhere.pth"], "(?s)generator.options.tagger: .*nowhere.pth"),
        (["generator.options.start=nowhere.pth"], "generator.options.start: there is no file"),
    ],
)
def test_what_does_not_go_with_it_or_is_not_there_is_named_first(tiny, assignments, words):
    with pytest.raises((ConfigError, WeightsNotFoundError), match=words):
        check_files(tiny(*assignments))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{rank: 0}", "rank"),
        ("{rank: 4, start: DAPE.pth}", "rank is not read with start"),
        ("{tokens_weight: 0, tags_weight: 0}", "one of them above 0"),
        ("{rang: 4}", "did you mean 'rank'"),
    ],
)
def test_wrong_options_are_named(tiny, options, words):
    with pytest.raises(ConfigError, match=words):
        check_options(tiny(f"generator.options={options}"))


def test_what_makes_no_picture_has_no_losses_and_a_merged_tagger_is_refused(tiny, ram, tmp_path):
    config = tiny("losses.l1.weight=1")
    with pytest.raises(ConfigError, match="losses: not read with task=tagging"):
        build_task(config, build_generator(config, CPU))
    plain = tiny()
    with pytest.raises(ConfigError, match="tagging is for the generator tagger_lora"):
        build_task(plain, replace(build_generator(plain, CPU), sight=None))
    merged = tmp_path / "merged.safetensors"
    convert_tagger(ram / "ram_swin_large_14m.pth", merged, lora=ram / "DAPE.pth")
    with pytest.raises(SpecMismatchError, match="is merged into this tagger"):
        build_generator(tiny(f"generator.options.tagger={merged}"), CPU)
