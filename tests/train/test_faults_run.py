"""What goes wrong on the way: divergence, full disks, launchers, environments; and what is checked first."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from hypir_core.errors import ConfigError, MissingDependencyError, SpecMismatchError, TrainingDivergedError
from hypir_core.weights.tensors import write_tensors
from train.config import TrainConfig, load_config
from train.generators.cut_prompts import CutPrompts
from train.losses import Compared
from train.run import best, building, recipe, tracking
from train.run.building import build
from train.run.checkpoint_folders import newest_checkpoint
from train.run.divergence import LEAST_REMEMBERED, PATIENCE, Watch
from train.run.meter import Meter, length_of_time
from train.run.recipe import generator_step, train
from train.run.tracking import CsvFile, TensorBoard, Trackers
from train.run.warm_start import read_fitting

pytestmark = pytest.mark.tiny

ROOT = Path(__file__).parents[2]


def tiny(photos: Path, out: Path, steps: int, *assignments: str) -> TrainConfig:
    common = [f"data.root={photos}", f"output_dir={out}", f"max_steps={steps}"]
    return load_config("tiny_cpu_pixel", [*common, *assignments])


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


# Divergence


def test_a_finite_explosion_is_no_success(photos, tmp_path):
    explosive = [
        "generator.optimiser.lr=1e6",
        "generator.optimiser.warmup_steps=0",
        "generator.optimiser.clip_norm=0",
    ]
    with pytest.raises(TrainingDivergedError, match="start again with a lower learning rate"):
        train(tiny(photos, tmp_path, 40, *explosive, "checkpoint.every=100"))
    assert not (tmp_path / "generator.safetensors").exists()


def test_a_loss_far_above_its_median_is_found_after_some_patience():
    watch = Watch(image_losses=frozenset({"l1"}))
    for step in range(LEAST_REMEMBERED):
        watch.check(step, {"l1": torch.tensor(0.02), "judge": torch.tensor(0.0)})
    for step in range(PATIENCE - 1):
        watch.check(step, {"l1": torch.tensor(300.0), "judge": torch.tensor(5000.0)})
    watch.check(0, {"l1": torch.tensor(0.02)})  # it came back
    for step in range(PATIENCE - 1):
        watch.check(step, {"l1": torch.tensor(300.0)})
    with pytest.raises(TrainingDivergedError, match=r"step 7: l1, which was 0\.02 before, = 300"):
        watch.check(7, {"l1": torch.tensor(300.0)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e17, -2e8])
def test_any_term_beyond_all_bounds_is_found_at_once(value):
    with pytest.raises(TrainingDivergedError, match="step 3: judge_r1 = "):
        Watch(image_losses=frozenset()).check(3, {"l1": torch.tensor(0.1), "judge_r1": torch.tensor(value)})


def test_losses_as_they_are_do_not_alarm():
    """Falling to nothing, crossing zero, one bad batch, a penalty of thousands."""
    watch = Watch(image_losses=frozenset({"l2"}))
    for step in range(400):
        l2 = 3.0 if step % 50 == 49 else 1.0 / (1 + step) ** 2
        judge = (-1) ** step * 40.0
        watch.check(step, {"l2": torch.tensor(l2), "judge": torch.tensor(judge), "r1": torch.tensor(9e3)})


def test_weights_that_are_not_finite_never_reach_a_checkpoint(photos, tmp_path, monkeypatch):
    def poisoned(run, *rest):
        generated = generator_step(run, *rest)
        with torch.no_grad():
            next(run.player.module.parameters()).fill_(float("inf"))
        return generated

    monkeypatch.setattr(recipe, "generator_step", poisoned)
    with pytest.raises(TrainingDivergedError, match="weights of generator"):
        train(tiny(photos, tmp_path, 1))
    assert newest_checkpoint(tmp_path) is None


def test_the_way_out_of_a_divergence_is_accepted(photos, tmp_path, monkeypatch):
    """Every command that the message gives goes on."""
    common = ["checkpoint.every=1", "checkpoint.keep_last=5"]
    real = recipe.generator_step

    def diverging(run, step, step_log):
        if step == 3:
            raise TrainingDivergedError(step, "l1", float("nan"))
        return real(run, step, step_log)

    monkeypatch.setattr(recipe, "generator_step", diverging)
    with pytest.raises(TrainingDivergedError) as caught:
        train(tiny(photos, tmp_path, 6, *common))
    said = str(caught.value)
    assert "step-00000003 is whole" in said
    advised = [word.rstrip(".") for word in said.split() if word.startswith(("checkpoint.", "generator."))]
    assert advised == [
        "checkpoint.resume=all", "generator.optimiser.lr=0.001", "checkpoint.resume_from=step-00000001",
    ]  # fmt: skip
    monkeypatch.undo()
    assert build(tiny(photos, tmp_path, 6, *common, *advised)).start == 1
    train(tiny(photos, tmp_path, 6, *common, *advised[:2]))
    assert newest_checkpoint(tmp_path).name == "step-00000006"


# Disks


@pytest.mark.parametrize("broken", [(CsvFile, "scalars"), (TensorBoard, "scalars"), (TensorBoard, "close")])
def test_a_tracker_that_cannot_write_is_no_reason_to_lose_a_training(
    photos, tmp_path, monkeypatch, caplog, broken
):
    monkeypatch.setattr(*broken, full_disk)
    both = ["tracking.csv=true", "tracking.tensorboard=true", "tracking.every=1"]
    train(tiny(photos, tmp_path, 3, *both))
    assert (tmp_path / "generator.safetensors").exists()
    said = [line for line in caplog.messages if "cannot be written (No space left on device)" in line]
    assert len(said) == 1
    assert broken[0].__name__ in said[0]


def test_a_csv_file_goes_on_when_there_is_space_again(tmp_path, monkeypatch):
    file = CsvFile(tmp_path / "scalars.csv", 0)
    trackers = Trackers([file])
    trackers.scalars(1, {"loss": 1.0})
    with monkeypatch.context() as full:
        full.setattr(CsvFile, "scalars", full_disk)
        trackers.scalars(2, {"loss": 2.0})
    trackers.scalars(3, {"loss": 3.0})
    assert (tmp_path / "scalars.csv").read_text().splitlines() == [
        "step,name,value",
        "1,loss,1.0",
        "3,loss,3.0",
    ]


def test_lines_that_a_full_disk_cut_short_are_left_out_on_resume(tmp_path):
    path = tmp_path / "scalars.csv"
    path.write_text("step,name,value\n1,loss,1.0\n2,lo\nnonsense,loss,1\n2,loss,0.5\n")
    CsvFile(path, 2)
    assert path.read_text().splitlines() == ["step,name,value", "1,loss,1.0", "2,loss,0.5"]


def test_best_weights_and_pictures_that_cannot_be_written_are_said(photos, tmp_path, monkeypatch, caplog):
    from hypir_core.errors import WeightsError

    def cannot(*_args, **_kwargs):
        raise WeightsError("generator_best.safetensors: cannot be written (No space left on device)")

    monkeypatch.setattr(best, "write_weights", cannot)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "validation").touch()  # a file where the folder should be
    validation = [f"validation.root={photos}", "validation.every=2", "validation.count=1"]
    train(tiny(photos, tmp_path / "run", 2, *validation))
    said = "\n".join(caplog.messages)
    assert "the best weights cannot be written, training goes on" in said
    assert "validation/realesrgan-0 cannot be written" in said
    assert (tmp_path / "run" / "generator.safetensors").exists()


def test_a_list_of_bad_files_that_cannot_be_written_is_said(photos, tmp_path, monkeypatch, caplog):
    from train.data.bad_files import BadFiles

    def cannot(*_):
        raise ConfigError("output_dir: bad_files.txt cannot be written")

    monkeypatch.setattr(BadFiles, "add", cannot)
    config = tiny(photos, tmp_path, 1)
    report = building._report(config, (), build(config).accelerator, resumed=False)
    report(["a.png: broken"])
    assert "bad_files.txt cannot be written; training goes on" in "\n".join(caplog.messages)


# Launchers and environments


def test_sigterm_to_accelerate_launch_stops_the_training_with_a_checkpoint(photos, tmp_path):
    run = tmp_path / "run"
    words = [
        "tiny_cpu_pixel",
        f"data.root={photos}",
        f"output_dir={run}",
        "max_steps=3000",
        "tracking.every=1",
    ]
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "train", *words,
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as job:
        assert job.stderr is not None
        said = []
        for line in job.stderr:
            said.append(line)
            if "step 3/" in line:
                os.kill(job.pid, signal.SIGTERM)  # the launcher only, as a scheduler does
                break
        said += job.stderr.readlines()  # until the training itself has ended
    assert "stopped at step" in "".join(said)
    assert newest_checkpoint(run) is not None
    assert (run / "generator.safetensors").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_closed_terminal_stops_a_run_and_nohup_does_not():
    from train.run.stop import stop_on_signals

    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.asked
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_accelerate_s_accumulation_divides_no_loss(photos, tmp_path, monkeypatch):
    def gradient_of_one_pass() -> torch.Tensor:
        run = build(tiny(photos, tmp_path, 2))
        run.accelerator.backward(sum(p.sum() for p in run.player.module.parameters()))
        return next(run.player.module.parameters()).grad.clone()

    plain = gradient_of_one_pass()
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert torch.equal(gradient_of_one_pass(), plain)
    assert float(plain.mean()) == 1.0


def test_accelerate_s_own_compilation_is_refused(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    with pytest.raises(ConfigError, match=r"dynamo_backend: .*compile=true"):
        build(tiny(photos, tmp_path, 1))


# What is checked before anything heavy is made


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.degrade=[{recipe: lihgt}]", r"data\.degrade.*'light'"),
        ("data.root=nowhere", r"data\.root: nowhere is not a folder"),
        ("validation={root: nowhere}", r"validation\.root: nowhere is not a folder"),
        ("validation={root: nowhere, recipes: [relaesrgan]}", r"validation\.recipes.*'realesrgan'"),
        (
            "discriminators.d={name: unet, weights: no.safetensors}",
            r"discriminators\.d\.weights: there is no file",
        ),
        ("losses.lpips={options: {backbone: no.pth}}", r"losses\.lpips\.options\.backbone: there is no file"),
        ("base_model=no.safetensors", r"base_model: there is no file no\.safetensors"),
    ],
)
def test_typos_surface_before_the_generator_is_made(photos, tmp_path, monkeypatch, word, message):
    def heavy(*_):
        raise AssertionError("the generator was made first")

    monkeypatch.setattr(building, "build_generator", heavy)
    with pytest.raises(ConfigError, match=message):
        build(tiny(photos, tmp_path, 1, word))


# Validation


def test_scale_1_is_validated_on_damaged_pictures(photos, tmp_path):
    same_size = ["generator.options.scale=1", f"validation.root={photos}", "validation.count=2"]
    config = tiny(photos, tmp_path, 1, *same_size)
    run = build(config)
    assert run.pairs is not None
    assert set(run.pairs.by_recipe) == {"realesrgan"}
    assert all(0 < values["psnr_y"] < 60 for values in run.pairs.bicubic.values())
    with pytest.raises(ConfigError, match="bicubic only shrinks"):
        build(tiny(photos, tmp_path, 1, *same_size, "validation.recipes=[bicubic, realesrgan]"))
    doubled = tiny(photos, tmp_path, 1, f"validation.root={photos}", "validation.count=1")
    assert set(build(doubled).pairs.by_recipe) == {"realesrgan", "bicubic"}


def test_pairs_with_nothing_to_restore_do_not_count(photos, tmp_path, caplog):
    """A plain colour and a partner that is a copy have an infinite PSNR from the start."""
    for name in ("hq", "lq"):
        (tmp_path / name).mkdir()
    good = Image.open(photos / "0.png")
    for folder, picture in (("hq", good), ("lq", good.quantize(8).convert("RGB"))):
        picture.save(tmp_path / folder / "a.png")
        Image.new("RGB", good.size, "red").save(tmp_path / folder / "b.png")
    given = [
        "generator.options.scale=1", f"validation.root={tmp_path / 'hq'}",
        f"validation.source.lq_root={tmp_path / 'lq'}",
    ]  # fmt: skip
    run = build(tiny(photos, tmp_path / "run", 1, *given))
    assert [len(pairs) for pairs in run.pairs.by_recipe.values()] == [1]
    assert "1 of 2 pictures are left out for given" in "\n".join(caplog.messages)
    (tmp_path / "hq" / "a.png").unlink()
    with pytest.raises(ConfigError, match="leaves nothing to restore in any of the 1 pictures"):
        build(tiny(photos, tmp_path / "run", 1, *given))


def test_validation_pictures_are_files_from_before_the_first_step_on(photos, tmp_path, monkeypatch):
    validation = [
        f"validation.root={photos}",
        "validation.every=2",
        "validation.count=2",
        "validation.images=1",
    ]
    train(tiny(photos, tmp_path, 3, *validation, "validation.recipes=[light]", "tracking.csv=true"))
    folder = tmp_path / "validation" / "light-0"
    assert {path.name for path in folder.iterdir()} == {
        "low_quality.png", "bicubic.png", "target.png",
        "step-00000000.png", "step-00000002.png", "step-00000003.png",
    }  # fmt: skip
    with Image.open(folder / "target.png") as target, Image.open(folder / "step-00000003.png") as restored:
        assert target.size == restored.size == (80, 64)
        assert target.tobytes() == Image.open(photos / "0.png").convert("RGB").tobytes()
    steps = {
        line.split(",")[0] for line in (tmp_path / "scalars.csv").read_text().splitlines() if "val/" in line
    }
    assert steps == {"0", "2", "3"}


def test_validation_pictures_of_other_channels_are_written_too(tmp_path):
    from train.run.validation import Shown
    from train.run.validation_pictures import write_pictures

    for channels in (1, 2, 4):
        band = torch.rand(channels, 4, 6)
        write_pictures(tmp_path, 3, [Shown(f"own.yaml-{channels}", band, band, band, band)])
        with Image.open(tmp_path / "validation" / f"own-{channels}" / "step-00000003.png") as picture:
            assert (picture.size, picture.mode) == ((6, 4), "RGB")


# Discriminators, messages, Weights & Biases


def test_features_are_not_matched_before_the_discriminator_learns(photos, tmp_path):
    judge = "discriminators.judge={name: unet, options: {features: 4, depth: 2}, feature_matching: {weight: 1}, %s}"
    ramp = "ramp: {shape: linear, start: 3, length: 4}"
    run = build(tiny(photos, tmp_path, 9, judge % ramp))
    batch = next(run.stream)
    pair = Compared(image=batch.hq, target=batch.hq)
    names = [set(run.rivals[0].generator_terms(step, pair, run.accelerator)) for step in range(6)]
    assert names == [set()] * 4 + [{"judge", "judge_features"}] * 2
    alone = build(tiny(photos, tmp_path, 9, judge % "weight: 0, ramp: {start: 2}"))
    names = [set(alone.rivals[0].generator_terms(step, pair, alone.accelerator)) for step in range(4)]
    assert names == [set(), set(), {"judge_features"}, {"judge_features"}]


def test_tensors_that_differ_are_counted_among_all_of_both_sides(tmp_path):
    path = tmp_path / "other.safetensors"
    write_tensors(path, {name: torch.zeros(2) for name in "abcdef"}, {})
    own = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(SpecMismatchError, match="; 5 of 6 tensors differ, first b: file 2, generator 3;"):
        read_fitting(path, own, key="base_model", what="generator", advice="look")


def test_time_left_is_not_counted_modulo_a_day():
    assert [length_of_time(s) for s in (0, 59.6, 3599, 7261, 86400 * 3 + 7200)] == [
        "0s", "1m00s", "59m59s", "2h01m", "3d02h",
    ]  # fmt: skip


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


def test_what_is_done_apart_is_no_part_of_a_step(monkeypatch):
    from train.run import meter

    clock = iter([0.0, 10.0, 110.0, 120.0])
    monkeypatch.setattr(meter.time, "perf_counter", lambda: next(clock))
    counted = Meter(torch.device("cpu"))
    with counted.apart():
        pass
    for _ in range(4):
        counted.step_done()
    assert counted.read()["speed/step_s"] == 5.0


class FakeRun:
    def __init__(self, made: list, **options):
        made.append(options)
        self.id = options["id"] or "new-id"

    def log(self, *_args, **_kwargs):
        pass

    def finish(self):
        pass


def test_a_resumed_run_goes_on_with_the_same_one_of_weights_and_biases(photos, tmp_path, monkeypatch):
    """A server gives the names, so two functions stand here for it; `test_tracking` runs the package without one."""
    from types import SimpleNamespace

    made: list = []
    package = SimpleNamespace(init=lambda **options: FakeRun(made, **options), Image=lambda image: image)
    monkeypatch.setitem(sys.modules, "wandb", package)
    for steps in (2, 4):
        train(tiny(photos, tmp_path, steps, "tracking.wandb=mine"))
    assert [(options["id"], options["resume"]) for options in made] == [(None, "allow"), ("new-id", "allow")]


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r"run: pip install 'onestep-restore\[track\]'$"):
        tracking.WeightsAndBiases("mine", tmp_path, {}, resumed=False)


def test_the_log_tells_the_weighted_losses(photos, tmp_path, caplog):
    caplog.set_level("INFO")
    train(
        tiny(
            photos,
            tmp_path,
            2,
            "losses={}",
            "losses.l1.weight=10",
            "losses.l2.weight=0.5",
            "tracking.every=2",
        )
    )
    (line,) = [message for message in caplog.messages if message.startswith("step 2/2")]
    rows = dict(row.split(",")[1:] for row in (tmp_path / "scalars.csv").read_text().splitlines()[1:])
    total = 10 * float(rows["loss/l1"]) + 0.5 * float(rows["loss/l2"])
    assert float(rows["loss/total"]) == pytest.approx(total, rel=1e-4)
    assert f"loss {float(rows['loss/total']):.4g} = l1 {10 * float(rows['loss/l1']):.4g} + l2 " in line
    assert "s/step" in line
    assert "GiB RAM" in line
