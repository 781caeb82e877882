"""A disk that is full costs a training what could not be written, said once, and nothing else."""

from __future__ import annotations

import errno

import pytest

from hypir_core.errors import ConfigError
from tests.train.tiny_runs import tiny
from train.run import best, building
from train.run.building import build
from train.run.recipe import train
from train.run.tracking import CsvFile, TensorBoard, Trackers

pytestmark = pytest.mark.tiny


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


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
