"""Pictures under URLs: fetched in advance, sent while the next is made, one put or one rename for each result."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from hypir_core.batch import ferry
from hypir_core.batch import store as stores
from hypir_core.batch.elsewhere import Elsewhere
from hypir_core.cli import main
from hypir_core.errors import FileError, MissingDependencyError

fsspec = pytest.importorskip("fsspec", reason="needs the extra cloud")


def hypir(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def memory():
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield fsspec.filesystem("memory")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    for i in range(12):
        place = folder / "below" if i % 3 == 0 else folder
        Image.new("RGB", (5, 4), (i * 9, 40, 90)).save(place / f"{i:02}.png")
    return folder


def names(memory, folder: str) -> set[str]:
    return {name for name in memory.find(folder) if not name.endswith(".jsonl")}


def test_a_bucket_is_restored_into_a_bucket_and_gone_on_with(memory, pictures, tmp_path, capsys, monkeypatch):
    memory.put(str(pictures), "/bucket/in", recursive=True)
    memory.pipe_file("/bucket/in/broken.png", b"no picture")
    words = ("restore", "memory://bucket/in", "-o", "memory://bucket/out", "--scale", 1)
    assert hypir("restore", pictures, "-o", tmp_path / "one", "--scale", 1) == 0
    assert hypir(*words, "--report", tmp_path / "r.json") == 1
    said = capsys.readouterr().err
    assert "memory://bucket/in/broken.png: expected a picture" in said
    assert "1 of 13 pictures failed" in said
    told = json.loads((tmp_path / "r.json").read_text())["results"]
    assert {one["output"] for one in told} >= {"memory://bucket/out/below/00.png"}
    made = {name[len("/bucket/out/") :]: memory.cat_file(name) for name in names(memory, "/bucket/out")}
    whole = {
        p.relative_to(tmp_path / "one").as_posix(): p.read_bytes() for p in (tmp_path / "one").rglob("*.png")
    }
    assert made == whole
    assert len(memory.glob("/bucket/out/hypir-manifest*.jsonl")) == 1  # twelve lines, one object

    fetched, sent = [], []
    for name, calls in (("fetch", fetched), ("put", sent)):
        real = getattr(stores.Store, name)
        monkeypatch.setattr(
            stores.Store,
            name,
            lambda self, a, b, real=real, calls=calls: calls.append(str(a)) or real(self, a, b),
        )
    assert hypir(*words) == 1
    assert [place for place in fetched if place.endswith(".png")] == ["broken.png"]
    assert not sent
    for name in memory.glob("/bucket/out/*.jsonl"):  # a run that was killed before it sent its lines
        memory.rm_file(name)
    assert hypir(*words) == 1
    assert (
        len([place for place in fetched if place == "01.png"]) == 2
    )  # the input, and the result that says what it is
    assert not sent
    memory.rm_file("/bucket/out/01.png")
    assert hypir(*words) == 1
    assert len(sent) == 1
    assert hypir(*words, "--strength", 0.5) == 1
    assert "memory://bucket/out/01.png exists" in capsys.readouterr().err
    assert len(sent) == 1


def test_a_folder_with_a_protocol_gets_each_result_by_one_rename(pictures, tmp_path, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    moved = []
    real = LocalFileSystem.mv
    monkeypatch.setattr(
        LocalFileSystem, "mv", lambda self, a, b, **k: moved.append(b) or real(self, a, b, **k)
    )
    assert hypir("restore", f"file://{pictures}", "-o", f"file://{tmp_path}/out", "--scale", 1) == 0
    assert hypir("restore", pictures, "-o", tmp_path / "one", "--scale", 1) == 0
    for path in (tmp_path / "one").rglob("*.png"):
        assert (tmp_path / "out" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()
    assert len([name for name in moved if name.endswith(".png")]) == 12
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_what_cannot_be_sent_fails_its_picture_and_leaves_no_name(memory, pictures, capsys, monkeypatch):
    real = type(memory).put_file

    def put_file(self, path, target, **words):
        if target.endswith("01.png"):
            raise PermissionError("quota")
        return real(self, path, target, **words)

    monkeypatch.setattr(type(memory), "put_file", put_file)
    words = ("restore", pictures, "-o", "memory://bucket/out", "--scale", 1)
    assert hypir(*words) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "memory://bucket/out/01.png: " in said[0]
    assert "PermissionError: quota" in said[0]
    assert len(names(memory, "/bucket/out")) == 11
    monkeypatch.undo()
    assert hypir(*words) == 0
    assert len(names(memory, "/bucket/out")) == 12


def test_read_ahead_and_write_behind_are_bounded(tmp_path, memory, pictures):
    memory.put(str(pictures), "/b/in", recursive=True)
    carrier = Elsewhere(tmp_path, ("memory://b/in",), str(tmp_path / "out"), force=False)
    found = carrier.find()
    assert found is not None
    from hypir_core.batch.naming import name_outputs

    jobs = name_outputs(found.pictures, carrier.out, format_name=None, several=True).jobs
    most = 0
    for job, trouble in carrier.ahead(jobs, lambda _job: True):
        assert trouble is None
        assert job.source.is_file()
        most = max(most, len(list((tmp_path / "in").rglob("*.png"))))
        assert list(carrier.take_away(job, job, is_made=False)) is not None
    list(carrier.rest())
    carrier.close()
    assert most <= ferry.READ_AHEAD + ferry.WRITE_BEHIND + 1
    assert not list((tmp_path / "in").rglob("*.png"))


def test_a_store_is_listed_one_folder_at_the_top_after_the_other(memory, monkeypatch):
    """A million objects are never all in one dict."""
    places = [f"{top}{i}.png" for top in ("", "a/", "a/deep/", "b/", ".hidden/") for i in range(3)]
    for place in places:
        memory.pipe_file(f"/bucket/in/{place}", b"12345")
    asked: list[str] = []
    find = type(memory).find
    monkeypatch.setattr(
        type(memory), "find", lambda self, path, **kw: asked.append(path) or find(self, path, **kw)
    )
    listing = stores.Store("memory://bucket/in").files()
    assert [next(listing)[0] for _ in range(3)] == ["0.png", "1.png", "2.png"]
    assert asked == []
    rest = [place for place, stamp in listing if stamp.bytes == 5]
    assert sorted(["0.png", "1.png", "2.png", *rest]) == sorted(places)
    assert asked == ["/bucket/in/.hidden", "/bucket/in/a", "/bucket/in/b"]
    assert [place for place, _ in stores.Store("memory://bucket/in/a/0.png").files()] == ["0.png"]
    assert list(stores.Store("memory://bucket/none").files(missing_ok=True)) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["memory://no/such", "-o", "x"], 1, "no such bucket"),
        (["memory://b/in", "-o", "memory://b/in/out"], 2, "lies in the input"),
        (["memory://b/in", "-o", "nobody://b"], 1, "Protocol not known"),
        (["memory://b/in", "memory://b/2", "-o", "x"], 2, "expected one URL"),
        (["memory://b/in", "-o", "x", "--pages", "all"], 2, "need files on this disk"),
        (["memory://b/in", "-o", "x.png"], 2, "a folder"),
    ],
)
def test_bad_urls_are_one_line(memory, tmp_path, monkeypatch, capsys, words, code, said):
    monkeypatch.chdir(tmp_path)
    memory.pipe_file("/b/in/a.png", b"x")
    assert hypir("restore", *words) == code
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert said in told[0]
    assert not list(tmp_path.iterdir())


def test_missing_packages_and_credentials_are_one_line(monkeypatch):
    import fsspec.core

    def fails(error):
        def url_to_fs(_url):
            raise error

        monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)

    fails(ImportError("Install s3fs to access S3"))
    with pytest.raises(MissingDependencyError, match=r"onestep-restore\[cloud\]"):
        stores.Store("s3://bucket")
    fails(RuntimeError("Unable to locate\ncredentials"))
    with pytest.raises(FileError, match=r"s3://bucket: .* RuntimeError: Unable to locate credentials"):
        stores.Store("s3://bucket")
