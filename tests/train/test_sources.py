"""Every kind of source, made of real files."""

from __future__ import annotations

import csv
import io
import json
import logging
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from hypir_core.errors import ConfigError
from tests.train.pair_streams import assert_same, take
from train.config import (
    Crop,
    DataConfig,
    PoolConfig,
    RecipeShare,
    SourceConfig,
    SourceKind,
    ValidationConfig,
)
from train.data.bad_files import BadFiles
from train.data.degrading import build_mixture
from train.data.fixed import read_fixed
from train.data.opening import open_source
from train.data.pairs import PairSequence
from train.data.pictures import read_size
from train.data.stream import PairStream

SCALE = 2
COUNT = 6
CPU = torch.device("cpu")


def picture(seed: int, *, width: int = 48, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def data(root: Path, source: SourceConfig | None = None, **changes) -> DataConfig:
    plain = DataConfig(
        root=root,
        source=source or SourceConfig(),
        batch_size=2,
        crop_px=32,
        rot90=True,
        degrade=(RecipeShare(recipe="light"), RecipeShare(recipe="bicubic")),
        workers=0,
    )
    return replace(plain, **changes)


def make_folder(root: Path, *, prompts: bool = True) -> DataConfig:
    for index in range(COUNT):
        folder = root / ("a" if index % 2 else "b")
        folder.mkdir(exist_ok=True)
        picture(index).save(folder / f"{index}.png")
        if prompts:
            (folder / f"{index}.txt").write_text(f"picture {index}\n", encoding="utf-8")
    return data(root)


def rows(root: Path) -> list[dict[str, str]]:
    make_folder(root, prompts=False)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    return [{"file": name, "text": f"picture {Path(name).stem}", "other": "x"} for name in names]


LISTED = SourceConfig(path_column="file", prompt_column="text")


def make_csv(root: Path) -> DataConfig:
    with (root / "list.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["other", "text", "file"])
        writer.writeheader()
        writer.writerows(rows(root))
    return data(root / "list.csv", LISTED)


def make_jsonl(root: Path) -> DataConfig:
    (root / "list.jsonl").write_text("\n".join(json.dumps(row) for row in rows(root)), encoding="utf-8")
    return data(root / "list.jsonl", LISTED)


def make_parquet(root: Path) -> DataConfig:
    pq.write_table(pa.Table.from_pylist(rows(root)), root / "list.parquet")
    return data(root / "list.parquet", LISTED)


def make_text(root: Path) -> DataConfig:
    (root / "list.txt").write_text("\n".join(row["file"] for row in rows(root)), encoding="utf-8")
    return data(root / "list.txt")


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def make_shards(root: Path) -> DataConfig:
    for shard in range(2):
        members: dict[str, bytes] = {}
        for index in range(shard * 3, shard * 3 + 3):
            kind = ("PNG", "JPEG", "WEBP")[index % 3]
            ending = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[kind]
            members[f"set/{index}.{ending}"] = encoded(picture(index), kind)
            members[f"set/{index}.txt"] = f"picture {index}".encode()
            members[f"set/{index}.json"] = json.dumps({"caption": f"fact {index}"}).encode()
        write_tar(root / f"{shard:03d}.tar", members)
    return data(root / "{000..001}.tar")


def make_pairs(root: Path) -> DataConfig:
    for half in ("hq", "lq"):
        (root / half).mkdir()
    for index in range(COUNT):
        image = picture(index)
        image.save(root / "hq" / f"{index}.png")
        small = image.resize((image.width // SCALE, image.height // SCALE), Image.Resampling.BOX)
        small.save(root / "lq" / (f"{index}.png" if index else "0.bmp"))
    return data(root / "hq", SourceConfig(lq_root=root / "lq"))


MAKERS = [make_folder, make_csv, make_jsonl, make_parquet, make_text, make_shards, make_pairs]


def sequence(config: DataConfig, *, seed: int = 3) -> PairSequence:
    mixture = build_mixture(config.degrade, scale=SCALE, sharpen_target=False)
    return PairSequence(open_source(config, scale=SCALE), config, mixture, seed=seed)


def stream(config: DataConfig, **options) -> PairStream:
    return PairStream(sequence(config), config, device=CPU, **({"report": lambda lines: None} | options))


@pytest.mark.parametrize("make", MAKERS)
def test_every_source_gives_its_pictures(make: Callable[[Path], DataConfig], tmp_path):
    source = open_source(make(tmp_path), scale=SCALE)
    assert len(source) == COUNT
    assert source.skipped == ()
    for place in range(COUNT):
        number = int(Path(source.name(place).rpartition(":")[2]).stem)
        expected = torch.from_numpy(np.array(picture(number))).permute(2, 0, 1).float()
        item = source.item(place)
        tolerance = 6 if make is make_shards else 0  # JPEG and WebP lose something
        assert (item.hq.float() - expected).abs().mean() <= tolerance
        assert item.prompt == ("" if make in {make_text, make_pairs} else f"picture {number}")
        assert (item.lq is not None) == source.paired == (make is make_pairs)


@pytest.mark.parametrize("make", MAKERS)
def test_every_source_resumes_exactly_with_and_without_workers(make, tmp_path):
    config = replace(make(tmp_path), prompt_dropout=0.3, pool=PoolConfig(size=4, reuse=2))
    straight = take(stream(config), 8)
    first = stream(replace(config, workers=1))
    assert_same(take(first, 5), straight[:5])
    for workers in (0, 1):
        resumed = stream(replace(config, workers=workers), position=first.position)
        assert_same(take(resumed, 3), straight[5:])


@pytest.mark.parametrize("make", MAKERS)
def test_processes_get_different_pictures_of_an_epoch(make, tmp_path):
    config = replace(make(tmp_path), hflip=False, rot90=False, crop=Crop.center)
    ranks = [take(stream(config, rank=rank, processes=3), 1)[0] for rank in range(3)]
    seen = {tuple(hq.flatten().tolist()) for batch in ranks for hq in batch.hq}
    assert len(seen) == COUNT


def test_the_hash_tells_another_list_from_this_one(tmp_path):
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    one, two, three = (make_csv(tmp_path / name) for name in ("one", "two", "three"))
    (tmp_path / "three" / "list.csv").write_text(three.root.read_text().replace("picture 3", "a cat"))
    hashes = [open_source(config, scale=SCALE).hash for config in (one, two, three)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_given_pairs_are_cut_and_turned_alike(tmp_path):
    """Every low-quality pixel is the mean of the 2×2 above it, whatever the crop and the flips did."""
    pairs = sequence(make_pairs(tmp_path))
    for index in range(24):
        item, label = pairs.pair(index)
        assert label == "given"
        assert item.lq is not None
        means = torch.nn.functional.avg_pool2d(item.hq.float(), SCALE)
        assert (means - item.lq.float()).abs().max() <= 1  # Pillow rounds once per axis


def test_pairs_can_be_two_columns_of_a_list(tmp_path):
    make_pairs(tmp_path)
    lines = ["good,bad", *(f"hq/{n}.png,lq/{n}.{'png' if n else 'bmp'}" for n in range(COUNT))]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    listed = data(tmp_path / "pairs.csv", SourceConfig(path_column="good", lq_column="bad"))
    folders = data(tmp_path / "hq", SourceConfig(lq_root=tmp_path / "lq"))
    assert_same(take(stream(listed), 3), take(stream(folders), 3))


def test_partners_that_do_not_fit_are_reported(tmp_path):
    config = make_pairs(tmp_path)
    picture(1, width=48, height=24).save(tmp_path / "lq" / "1.png")
    (tmp_path / "lq" / "2.png").unlink()
    picture(3).save(tmp_path / "lq" / "3.jpg")
    (tmp_path / "lq" / "3.png").rename(tmp_path / "lq" / "3.webp")
    (tmp_path / "lq" / "4.png").write_bytes(b"no picture")
    source = open_source(config, scale=SCALE)
    assert len(source) == 2
    found = dict(line.split(": ", 1) for line in source.skipped)
    assert found == {
        "1.png": "is 48×40 px and its low-quality partner 48×24 px; expected 2 times the partner",
        "2.png": "has no partner of this name in data.source.lq_root",
        "3.png": "has several partners: 3.jpg, 3.webp",
        "4.png": "is not a picture",
    }


def test_settings_that_given_pairs_do_not_use_are_errors(tmp_path):
    with pytest.raises(ConfigError) as caught:
        data(
            tmp_path,
            SourceConfig(lq_root=tmp_path),
            shrink=(0.5, 1),
            crop=Crop.fit_random,
            sharpen_target=True,
        )
    text = str(caught.value)
    assert all(word in text for word in ("shrink", "crop must be", "sharpen_target"))


def test_prompts_can_be_a_key_of_json_members(tmp_path):
    make_shards(tmp_path)
    config = data(tmp_path / "*.tar", SourceConfig(prompt_column="caption"))
    source = open_source(config, scale=SCALE)
    assert [source.item(place).prompt for place in range(COUNT)] == [f"fact {n}" for n in range(COUNT)]


def test_prompts_arrive_with_their_pictures_and_are_dropped_as_often_as_asked(tmp_path):
    make_folder(tmp_path)
    batch = next(stream(data(tmp_path)))
    assert len(batch.prompts) == len(batch) == 2
    assert all(prompt.startswith("picture ") for prompt in batch.prompts)
    pairs = sequence(data(tmp_path, prompt_dropout=0.25))
    dropped = sum(pairs.crop(index).prompt == "" for index in range(400))
    assert 70 <= dropped <= 130
    kept = sequence(data(tmp_path))
    for index in range(10):
        assert torch.equal(pairs.crop(index).hq, kept.crop(index).hq)


def test_bad_files_of_a_folder_are_reported_and_left_out(tmp_path, caplog):
    make_folder(tmp_path)
    (tmp_path / "a" / "text.png").write_text("not a picture")
    picture(9, width=96, height=16).save(tmp_path / "a" / "small.png")
    picture(8).save(tmp_path / "b" / "told.png")
    (tmp_path / "b" / "told.txt").write_bytes(b"\xff\xfe\xff")
    with caplog.at_level(logging.WARNING):
        source = open_source(data(tmp_path), scale=SCALE)
    assert len(source) == COUNT
    assert len(source.skipped) == 3
    assert "skipped a/text.png: is not a picture" in caplog.text
    assert "skipped a/small.png: is 96×16 px, smaller than 32 px" in caplog.text
    assert "b/told.png: its prompt told.txt is not readable UTF-8 text" in caplog.text
    assert "3 of 9 pictures are left out" in caplog.text


def test_deep_and_turned_pictures_are_read_as_they_look(tmp_path):
    levels = np.linspace(0, 65535, 40 * 48).reshape(40, 48).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    turned, exif = picture(1), Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° to the right
    turned.save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(levels.astype(np.float32) / 65535).save(tmp_path / "float.tif")
    source = open_source(data(tmp_path), scale=SCALE)
    deep, floating, upright = (source.item(place).hq for place in range(3))
    assert deep.dtype == torch.uint16
    assert (deep.numpy() == levels).all()
    assert floating.dtype == torch.float32
    assert (floating.numpy() == levels.astype(np.float32) / 65535).all()
    assert torch.equal(upright, torch.from_numpy(np.rot90(np.array(turned), -1).copy()).permute(2, 0, 1))
    assert read_size(tmp_path / "turned.png") == (40, 48)
    assert source.skipped == ()


def test_bad_rows_of_a_list_are_reported(tmp_path):
    make_folder(tmp_path)
    lines = [{"path": "b/0.png"}, {"path": None}, {"path": "gone.png"}, {"text": "x"}, {"path": 7}]
    (tmp_path / "list.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    source = open_source(data(tmp_path / "list.jsonl"), scale=SCALE)
    assert [source.name(0)] == ["b/0.png"]
    assert source.skipped[0] == "row 2: has no path, but None"
    assert source.skipped[1].startswith("gone.png: cannot be read")
    assert len(source.skipped) == 4


def test_bad_samples_of_shards_are_reported_and_the_rest_of_a_damaged_shard_is_used(tmp_path):
    good, small = encoded(picture(0)), encoded(picture(1, width=16))
    write_tar(
        tmp_path / "0.tar",
        {
            "a.png": good,
            "b.png": small,
            "c.txt": b"no picture",
            "d.png": good,
            "d.jpg": good,
            "._e.png": b"x",
        },
    )
    write_tar(tmp_path / "1.tar", {"f.png": good, "g.png": good})
    whole = (tmp_path / "1.tar").read_bytes()
    (tmp_path / "1.tar").write_bytes(whole[: 512 + -(-len(good) // 512) * 512 + 512 + 100])
    (tmp_path / "2.tar").write_bytes(b"nothing like a tar file" * 100)
    source = open_source(data(tmp_path / "{0..2}.tar"), scale=SCALE)
    assert [source.name(place).rpartition("/")[2] for place in range(len(source))] == ["0.tar:a", "1.tar:f"]
    text = "\n".join(source.skipped)
    for line in (
        "0.tar:b: is 16×40 px, smaller than 32 px",
        "0.tar:c: has 0 pictures",
        "0.tar:d: has 2 pictures, expected one; members: .png, .jpg",
        "1.tar:g: is cut off by the end of the shard",
        "1.tar: is damaged",
        "2.tar: is damaged or not an uncompressed tar file",
    ):
        assert line in text
    assert len(source.skipped) == 6


def test_without_the_check_bad_pictures_are_found_on_the_way(tmp_path):
    make_folder(tmp_path, prompts=False)
    (tmp_path / "text.png").write_text("not a picture")
    picture(9, width=96, height=16).save(tmp_path / "small.png")
    config = data(tmp_path, SourceConfig(check=False))
    assert len(open_source(config, scale=SCALE)) == COUNT + 2
    lines: list[str] = []
    batches = take(stream(config, report=lines.extend), 8)
    assert sorted(line.split(":")[0] for line in lines) == ["small.png", "text.png"]
    position = stream(config)
    take(position, 3)
    assert_same(take(stream(config, position=position.position), 5), batches[3:])


def test_the_list_of_bad_files_is_written_once_and_kept_on_resume(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        files = BadFiles(tmp_path, ["a: small"], process=0, resumed=False)
        files.add(["b: broken"])
        files.add(["b: broken"])
    assert caplog.text.count("b: broken") == 1
    BadFiles(tmp_path, ["a: small", "c: new"], process=0, resumed=True)
    assert (tmp_path / "bad_files.txt").read_text().splitlines() == ["a: small", "b: broken", "c: new"]
    BadFiles(tmp_path, [], process=1, resumed=False).add(["d: late"])
    assert (tmp_path / "bad_files-process-1.txt").read_text() == "d: late\n"
    BadFiles(tmp_path, [], process=0, resumed=False)
    assert not (tmp_path / "bad_files.txt").exists()


@pytest.mark.parametrize("make", [make_csv, make_jsonl, make_parquet])
def test_wrong_columns_are_one_error_with_the_columns_there_are(make, tmp_path):
    root = make(tmp_path).root
    with pytest.raises(ConfigError) as caught:
        open_source(data(root, SourceConfig(path_column="files", prompt_column="caption")), scale=SCALE)
    first, second = caught.value.problems
    assert first.startswith("data.source.path_column: ")
    assert "has no column 'files' (did you mean 'file'?)" in first
    assert second.startswith("data.source.prompt_column: ")
    assert set(second.rpartition("it has: ")[2].split(", ")) == {"file", "text", "other"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, r"^data\.root: .*gone\.csv cannot be read"),
        ("bad.jsonl", b'{"path": "a.png"}\n{path}', r"^data\.root: .* \(line 2: "),
        ("bad.parquet", b"PAR1 and no more", r"^data\.root: .* is not a readable \.parquet list"),
        ("empty.txt", b"\n", r"^data\.root: .*empty\.txt lists no usable picture"),
        ("gone.tar", None, r"^data\.root: 1 of 1 shards are missing"),
        ("{0..2.tar", None, r"^data\.root: .*(braces|missing)"),
        ("empty.tar", b"", r"^data\.root: .* holds no usable picture"),
        ("gone", None, r"^data\.root: .*gone is not a folder"),
    ],
)
def test_a_source_that_cannot_be_read_names_the_key(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        open_source(data(tmp_path / name), scale=SCALE)


@pytest.mark.parametrize("make", MAKERS)
def test_a_source_with_nothing_large_enough_says_so(make, tmp_path):
    config = replace(make(tmp_path), crop_px=64)
    with pytest.raises(
        ConfigError, match=r"^data\.root: .*no usable picture.*48×40 px, smaller than 64 px \(data\.crop_px\)"
    ):
        open_source(config, scale=SCALE)


def test_settings_of_another_kind_of_source_are_errors(tmp_path):
    with pytest.raises(ConfigError) as caught:
        data(tmp_path, SourceConfig(lq_column="lq", path_prefix=tmp_path))
    assert len(caught.value.problems) == 2
    assert "source.lq_column is not used by a folder" in str(caught.value)
    assert data(tmp_path, SourceConfig(kind=SourceKind.list, lq_column="lq")).source.paired


@pytest.mark.parametrize("make", MAKERS)
def test_validation_reads_every_source_with_its_prompts_and_partners(make, tmp_path):
    config = make(tmp_path)
    fixed = ValidationConfig(root=config.root, source=config.source, count=2, recipes=("light", "bicubic"))
    pairs = read_fixed(fixed, scale=SCALE, grain_px=16, least_px=32)
    assert set(pairs) == ({"given"} if make is make_pairs else {"light", "bicubic"})
    for batches in pairs.values():
        assert len(batches) == 2
        for batch in batches:
            assert batch.hq.shape == (1, 3, 32, 48)
            assert batch.lq.shape == (1, 3, 16, 24)
            assert len(batch.prompts) == 1
    if make is make_pairs:
        means = torch.nn.functional.avg_pool2d(pairs["given"][1].hq, SCALE)
        torch.testing.assert_close(pairs["given"][1].lq, means, atol=1.01 / 255, rtol=0)


def test_validation_passes_over_torn_pictures_and_names_its_own_keys(tmp_path, caplog):
    for index in range(3):
        picture(index).save(tmp_path / f"{index}.png")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(whole[: len(whole) // 2])
    fixed = ValidationConfig(root=tmp_path, recipes=("bicubic",))
    with caplog.at_level(logging.WARNING):
        assert len(read_fixed(fixed, scale=SCALE, grain_px=2, least_px=32)["bicubic"]) == 2
    assert "validation.root: skipped 0.png: cannot be decoded" in caplog.text
    (tmp_path / "list.csv").write_text("file\n1.png")
    listed = ValidationConfig(root=tmp_path / "list.csv")
    with pytest.raises(ConfigError, match=r"^validation\.source\.path_column: "):
        read_fixed(listed, scale=SCALE, grain_px=2, least_px=32)
    for path in tmp_path.glob("*.png"):
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"^validation\.root: none of the 3 pictures"):
        read_fixed(fixed, scale=SCALE, grain_px=2, least_px=32)
