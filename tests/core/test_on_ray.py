"""A real Ray on this machine: workers are killed in the middle, and everything is there, to the last byte."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from PIL import Image

from hypir_core.batch.elsewhere import elsewhere
from hypir_core.batch.finding import find_pictures
from hypir_core.batch.manifest import Manifest
from hypir_core.batch.naming import name_outputs
from hypir_core.batch.on_ray import run_on_ray
from hypir_core.batch.restoring import Writing
from hypir_core.batch.running import run_jobs
from hypir_core.batch.shards import MANIFEST
from hypir_core.batch.work import Work
from hypir_core.cli import main
from hypir_core.image.size import TargetSize
from hypir_core.request import Request


def hypir(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(24):
        Image.new("RGB", (40 + i, 30), (i * 9, 40, 90)).save(tmp_path / "in" / f"{i:02}.png")
    return tmp_path / "in"


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_raylet_start_wait_time_s", "120")
    patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # Ray shows its own errors on a thread; a kill is one.
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield ray
    ray.shutdown()
    patch.undo()


class DeadlyWork(Work):
    """Ends its process when it sees a picture of 31 px."""

    def runtime(self, **words):
        def inspect(_name, values, _seconds):
            if values.shape[-1] == 31:
                os.kill(os.getpid(), signal.SIGKILL)

        return replace(super().runtime(**words), inspect=inspect)


@dataclass(frozen=True, kw_only=True)
class CountedWork(Work):
    """Notes each picture that it begins: the process, and the width, which is another one for each."""

    journal: str

    def runtime(self, **words):
        def inspect(name, values, _seconds):
            if name == "prepare":
                with open(self.journal, "ab", buffering=0) as file:  # noqa: PTH123  # one write, whole or not there
                    file.write(f"{os.getpid()} {values.shape[-1]}\n".encode())

        return replace(super().runtime(**words), inspect=inspect)


SAME_SIZE = Request(target=TargetSize(scale=1.0))
"""As the command line asks: it goes on with what is made here."""


def restored(work, pictures, out, **words):
    plan = name_outputs(find_pictures([str(pictures)]).pictures, out, format_name=None, several=True)
    manifest = Manifest(out / MANIFEST)
    return run_on_ray(work, plan.jobs, address="auto", cpus=1, writing=Writing(), manifest=manifest, **words)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_workers_lose_nothing(ray, pictures, tmp_path):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    out, results, workers, killed = tmp_path / "out", [], [], []

    def finished(_job, result, _report):
        results.append(result)
        alive = [worker.process for worker in workers if worker.process not in killed]
        if len(killed) < 2 and len(results) >= 4 + 9 * len(killed) and alive:  # in the middle of a lease
            killed.append(alive[0])
            os.kill(killed[-1], signal.SIGKILL)

    journal = tmp_path / "journal"
    work = CountedWork(engine="built-in", request=SAME_SIZE, device="cpu", journal=str(journal))
    tally = restored(work, pictures, out, joining=workers.append, finished=finished)
    assert len(killed) == 2
    begun = [line.split() for line in journal.read_text().splitlines()]
    for process in map(str, killed):  # nobody makes again what it had made: only the one that it had in hand
        own = [number for number, (owner, _width) in enumerate(begun) if owner == process]
        for number in own[:-1]:
            assert begun[number][1] not in {width for _owner, width in begun[number + 1 :]}
    assert len(begun) <= 24 + len(killed)
    assert len({width for _process, width in begun}) == 24
    plan = name_outputs(
        find_pictures([str(pictures)]).pictures, tmp_path / "one", format_name=None, several=True
    )
    run_jobs(work.load(), plan.jobs, work.request, work.runtime(), writing=Writing(), manifest=None)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "one").glob("*.png")}
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == whole
    assert (tally.failed, tally.all) == (0, 24)
    assert len(whole) == 24
    assert Counter(result.input for result in results).most_common(1)[0][1] == 1
    again = restored(work, pictures, out)
    assert (again.skipped, again.all) == (24, 24)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_bucket_that_all_workers_reach_is_restored_and_a_kill_loses_nothing(
    ray, pictures, tmp_path, capsys
):
    """A folder behind a URL stands for the bucket: a store in memory is one process's."""
    pytest.importorskip("fsspec", reason="needs the extra cloud")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    Image.new("RGB", (31, 30)).save(pictures / "07.png")
    (pictures / "broken.png").write_bytes(b"no picture")
    source, target = f"file://{pictures}", f"file://{tmp_path}/out"
    work = DeadlyWork(engine="built-in", request=SAME_SIZE, device="cpu")
    results = []
    with elsewhere([source], target, force=False) as carrier:
        assert carrier is not None
        found = carrier.find()
        assert found is not None
        plan = name_outputs(found.pictures, carrier.out, format_name=None, several=True)
        manifest = Manifest(carrier.out / MANIFEST)
        carrier.follow(manifest.path)
        tally = run_on_ray(
            work,
            plan.jobs,
            address="auto",
            cpus=1,
            writing=Writing(),
            manifest=manifest,
            carrier=carrier,
            finished=lambda _job, result, _report: results.append(result),
        )
        scratch = carrier.out.parent
    assert not scratch.exists()  # what the killed workers had on their way as well
    assert (tally.done + tally.skipped, tally.failed) == (
        23,
        2,
    )  # skipped: made, and its word died with the worker
    told = {result.input: result for result in results}
    assert len(told) == len(results) == 25
    assert told[f"{source}/07.png"].status == "set aside"
    assert (told[f"{source}/broken.png"].error or "").startswith("expected a picture")
    assert told[f"{source}/00.png"].output == f"{target}/00.png"
    on_ray = ("restore", source, "-o", target, "--scale", 1, "--ray", "auto", "--ray-cpus", 1)
    assert hypir(*on_ray) == 1  # the exit code tells that some failed
    said = capsys.readouterr().err
    assert "07.png: it ended the programs that tried it" in said  # and nobody tries it again
    assert "2 of 25 pictures failed" in said
    (pictures / "07.png").unlink()
    (pictures / "broken.png").unlink()
    words = ["restore", str(pictures), "--scale", "1", "--device", "cpu", "-o"]
    assert hypir(*words, tmp_path / "one") == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "one").glob("*.png")}
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")}
    assert set(made) == set(whole)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    assert hypir(*on_ray) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    assert after == before
    (tmp_path / "out" / "05.png").unlink()
    assert hypir(*on_ray) == 0
    assert (tmp_path / "out" / "05.png").read_bytes() == whole["05.png"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_picture_that_ended_two_workers_is_set_aside(ray, pictures, tmp_path):
    Image.new("RGB", (31, 30)).save(pictures / "07.png")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    out, results = tmp_path / "out", []
    work = DeadlyWork(engine="built-in", request=SAME_SIZE, device="cpu")
    tally = restored(
        work,
        pictures,
        out,
        finished=lambda _job, result, _report: results.append(result),
    )
    assert (tally.done + tally.skipped, tally.failed) == (
        23,
        1,
    )  # skipped: made, and its word died with the worker
    assert [(r.status, r.input) for r in results if r.error] == [("set aside", str(pictures / "07.png"))]
    assert len(list(out.glob("*.png"))) == 23
    assert restored(work, pictures, out).failed == 1  # nobody tries it again


@pytest.mark.slow
def test_rasters_of_two_resolutions_are_refused_or_fail(ray, tmp_path, capsys):
    """Refused on a disk that all see; of a bucket the odd one fails, whichever worker reads it."""
    from tests.core.test_scenes_resolutions import ODD, results, words_for, write_rasters

    del ray
    source, out = write_rasters(tmp_path / "in", 10, 60, *[10] * 7), tmp_path / "out"
    on_ray = ["--ray", "auto", "--ray-cpus", "1"]
    assert main([*words_for(tmp_path, source, out), *on_ray]) == 2
    assert f"got cells of 10 m (00.tif …) and of 60 m ({source / '01.tif'})" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words_for(tmp_path, f"file://{source}", f"file://{out}"), *on_ray]) == 1
    assert ODD in capsys.readouterr().err
    assert results(out) == [f"{number:02}.tif" for number in range(9) if number != 1]


@pytest.mark.parametrize(
    ("address", "said"),
    [("nowhere", "must be auto or HOST:PORT"), ("127.0.0.1:{port}", "got no answer")],
)
def test_a_head_that_does_not_answer_is_one_line(pictures, tmp_path, capsys, monkeypatch, address, said):
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = address.format(port=taken.getsockname()[1])
        assert hypir("restore", pictures, "-o", tmp_path / "out", "--ray", address) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert said in told[0]
