"""What a person is told: the start, a dry run, the bar, the log; and optimisers of other packages."""

from __future__ import annotations

import io
import logging
import re
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hypir_core.errors import ConfigError, MissingDependencyError
from tests.train.equality import assert_equal
from tests.train.tiny_runs import tiny, words
from train.__main__ import main
from train.run.building import build
from train.run.memory import count_kept, held_by
from train.run.meter import Meter, length_of_time
from train.run.progress_bar import NoBar, RichBar, progress_bar
from train.run.recipe import train

pytestmark = pytest.mark.tiny

JUDGE = "discriminators.judge={name: unet, options: {features: 4, depth: 2}, weight: 0.1, ramp: {start: 3}}"


def test_the_start_says_where_on_what_and_from_where(photos, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(tiny(photos, tmp_path, 2, "accumulation=2"))
    said = "\n".join(caplog.messages)
    module = build(tiny(photos, tmp_path / "other", 2)).player.module
    count = sum(p.numel() for p in module.parameters())
    for line in (
        "device      cpu (",
        "processes   1, fp32",
        f"pictures    6 from {photos}; 8 samples per step (4 per pass × 2 passes × 1 processes)",
        f"network     generator: {count} of {count} parameters are trained",
        "steps       0 of 2 are done, starting anew",
    ):
        assert line in said
    assert re.search(
        r"memory {6}0\.\d MiB for weights, gradients, optimisers and averages, per process", said
    )
    caplog.clear()
    train(tiny(photos, tmp_path, 3, "accumulation=2"))
    assert "steps       2 of 3 are done, going on from " in "\n".join(caplog.messages)


def test_memory_is_what_the_tensors_take(photos, tmp_path):
    run = build(tiny(photos, tmp_path, 2))
    held = held_by(run.player)
    numbers = sum(p.numel() for p in run.player.module.parameters())
    assert (held.trained, held.all) == (numbers, numbers)
    assert held.weights_bytes == held.gradients_bytes == held.average_bytes == 4 * numbers
    assert held.optimiser_bytes == 8 * numbers
    frozen = run.player.module
    next(frozen.parameters()).requires_grad_(False)
    assert held_by(run.player).trained < numbers


def test_what_a_pass_keeps_is_counted_at_its_peak():
    """tanh keeps its result: three of 4000 bytes in a row; a second pass after the first adds nothing."""
    x = torch.zeros(1000, requires_grad=True)
    with count_kept([x]) as kept:
        for _ in range(2):
            y = x.tanh().tanh().tanh()
            assert kept.bytes == 12000
            y.sum().backward()
            del y
            assert kept.bytes == 0
    assert kept.peak_bytes == 12000
    layer = nn.Linear(1000, 1, bias=False)
    with count_kept([*layer.parameters(), x]) as kept:
        layer(x).sum().backward()
    assert kept.peak_bytes <= 4000  # weights are no activations


def test_a_dry_run_builds_measures_and_leaves_nothing(photos, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*words(photos, out, 9, JUDGE, "accumulation=2"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for start in ("device ", "network     judge", "activations ", "expected ", "first step "):
        assert start in said
    assert "judge_own" in said
    assert not out.exists()


def test_a_dry_run_leaves_a_run_that_is_there_as_it_is(photos, tmp_path):
    train(tiny(photos, tmp_path, 2))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main([*words(photos, tmp_path, 9), "--dry-run"]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_dry_run_refuses_what_training_refuses(photos, tmp_path, capsys):
    assert main([*words(photos, tmp_path, 9, "generator.options.feature=3"), "--dry-run"]) == 2
    assert "did you mean 'features'" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_on_a_terminal_only_and_the_log_stays_whole(photos, tmp_path, monkeypatch):
    run = build(tiny(photos, tmp_path, 10))
    with progress_bar(run) as bar:
        assert isinstance(bar, NoBar)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    handler = logging.StreamHandler(screen)
    logging.getLogger().addHandler(handler)
    try:
        with progress_bar(run) as bar:
            assert isinstance(bar, RichBar)
            bar.step(4)
            bar.values(4, {"speed/step_s": 600.0, "loss/total": 0.125, "memory/peak_ram_mib": 2048.0})
            (task,) = bar._progress.tasks
            assert (task.completed, task.total) == (4, 10)
            assert task.fields["figures"] == "loss 0.125  600.000 s/step  1h00m left  2.0 GiB RAM"
            logging.getLogger().warning("above [the] bar")
        assert "above [the] bar" in screen.getvalue()
        assert handler.stream is screen
    finally:
        logging.getLogger().removeHandler(handler)


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


def test_time_left_is_not_counted_modulo_a_day():
    assert [length_of_time(s) for s in (0, 59.6, 3599, 7261, 86400 * 3 + 7200)] == [
        "0s", "1m00s", "59m59s", "2h01m", "3d02h",
    ]  # fmt: skip


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


@pytest.mark.parametrize(
    ("kind", "package"),
    [("schedule_free", "schedulefree"), ("prodigy", "prodigyopt"), ("adamw8bit", "bitsandbytes")],
)
def test_an_optimiser_of_another_package_says_what_it_needs(photos, tmp_path, monkeypatch, kind, package):
    for module in (package, f"{package}.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    chosen = [
        f"generator.optimiser.kind={kind}",
        "generator.optimiser.lr_schedule=constant",
        "generator.ema=null",
    ]
    with pytest.raises(
        MissingDependencyError, match=rf"optimiser\.kind={kind} of generator .*pip install {package}"
    ):
        build(tiny(photos, tmp_path, 1, *chosen))


def test_schedule_free_needs_no_schedule_and_no_average(photos, tmp_path):
    free = "generator.optimiser.kind=schedule_free"
    with pytest.raises(ConfigError, match="lr_schedule must be constant"):
        tiny(photos, tmp_path, 1, free, "generator.ema=null")
    with pytest.raises(ConfigError, match="ema must be null"):
        tiny(photos, tmp_path, 1, free, "generator.optimiser.lr_schedule=constant")


FREE = [
    "generator.optimiser.kind=schedule_free",
    "generator.optimiser.lr_schedule=constant",
    "generator.ema=null",
]
PRODIGY = [
    "generator.optimiser.kind=prodigy",
    "generator.optimiser.lr=1",
    "generator.optimiser.lr_schedule=constant",
]


@pytest.mark.parametrize(("package", "chosen"), [("schedulefree", FREE), ("prodigyopt", PRODIGY)])
def test_an_optimiser_of_another_package_goes_on_where_it_stopped(photos, tmp_path, package, chosen):
    pytest.importorskip(package)
    validation = [
        f"validation.root={photos}",
        "validation.every=1",
        "validation.count=1",
        "validation.recipes=[light]",
    ]
    train(tiny(photos, tmp_path / "straight", 4, *chosen))
    train(tiny(photos, tmp_path / "stopped", 2, *chosen, *validation))
    train(tiny(photos, tmp_path / "stopped", 4, *chosen))
    players = [
        torch.load(tmp_path / name / "checkpoints" / "step-00000004" / "players.pt", weights_only=True)[
            "generator"
        ]
        for name in ("straight", "stopped")
    ]
    assert_equal(players[0]["weights"], players[1]["weights"])


def test_the_average_of_schedule_free_is_what_the_package_would_give(photos, tmp_path):
    pytest.importorskip("schedulefree")
    train(tiny(photos, tmp_path, 5, *FREE))
    run = build(tiny(photos, tmp_path, 9, *FREE))
    raw = dict(run.player.module.state_dict())
    assert_equal(load_file(tmp_path / "generator.safetensors"), raw)
    run.player.optimiser.optimizer.eval()
    average = load_file(tmp_path / "generator_ema.safetensors")
    torch.testing.assert_close(average, dict(run.player.module.state_dict()), rtol=0, atol=1e-6)
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "x.safetensors")]) == 0
    assert_equal(load_file(tmp_path / "x.safetensors"), average)


@pytest.mark.slow
def test_a_compiled_generator_trains_and_its_file_has_the_same_names(photos, tmp_path):
    """No wrapper may rename what is trained: checkpoints and exports fit the plain run."""
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    small = "generator.options.blocks=1"  # each layer is compiled
    train(tiny(photos, plain, 2, small))
    train(tiny(photos, compiled, 2, small, "compile=true"))
    one, two = (load_file(folder / "generator.safetensors") for folder in (plain, compiled))
    torch.testing.assert_close(two, one, atol=1e-4, rtol=0)
    assert build(tiny(photos, compiled, 3, small, "checkpoint.resume=all")).start == 2
