"""What manifests say, kept in rows of numbers: it must be what a dict would say."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypir_core.batch.finding import Found, Pictures
from hypir_core.batch.listed import Listed
from hypir_core.batch.made import Made, Stamp
from hypir_core.batch.manifest import MANIFEST, Manifest
from hypir_core.batch.numbered import Numbered

PLACES = st.text(min_size=1, max_size=3)


@given(texts=st.lists(st.text(max_size=3), max_size=3000))
def test_texts_have_the_numbers_of_their_coming(texts):
    numbered, plain = Numbered(), {}
    for text in texts:
        assert numbered.add(text) == plain.setdefault(text, len(plain))
    assert len(numbered) == len(plain)
    assert all(numbered.find(text) == number for text, number in plain.items())
    assert numbered.find("never came") is None


def test_many_numbers_are_found_again_after_every_growth():
    numbered = Numbered()
    for i in range(20_000):
        assert numbered.add(f"{i:05}.png") == i
    assert all(numbered.find(f"{i:05}.png") == i for i in range(20_000))
    assert all(numbered.find(f"{i:05}.jpg") is None for i in range(20_000))


@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["done", "failed", "set aside", "wrote"]),
            PLACES,
            st.sampled_from(["0123456789abcdef" * 2, "0123456789ABCDEF" * 2, "k", "é" * 32, " 1" * 16]),
            st.sampled_from(["", "s", "t"]),
            st.sampled_from([None, Stamp(0, -1), Stamp(7, 1 << 62)]),
        ),
        max_size=60,
    )
)
def test_rows_say_what_dictionaries_say(events):
    made, done, written, aside = Made(), {}, set(), set()
    for kind, place, key, settings, stamp in events:
        if kind == "wrote":
            made.wrote(place)
            written.add(place)
            continue
        aside.discard(place)
        if kind == "done":
            made.done(place, key, settings, stamp)
            done[place] = (key, settings, stamp)
            continue
        made.failed(place, set_aside=kind == "set aside")
        if done.pop(place, None) is not None:
            written.add(place)
        if kind == "set aside":
            aside.add(place)
    for place in {event[1] for event in events}:
        key, settings, stamp = done.get(place, (None, "s", Stamp(1, 1)))
        assert made.key_of(place) == key
        assert made.is_set_aside(place) == (place in aside)
        assert made.was_written(place) == (place in done or place in written)
        asked = Stamp(1, 1) if stamp is None else stamp
        assert made.unchanged(place, settings, asked) == (None if stamp is None else key)
        assert made.unchanged(place, "another", asked) is None
        assert made.unchanged(place, settings, Stamp(2, 2)) is None


@pytest.mark.parametrize("said", ['"x"', "[1]", '[1, "2"]', "[1, true]", f"[1, {1 << 70}]", "null"])
def test_a_stamp_that_no_disk_says_is_none(tmp_path, said):
    line = f'{{"input": "a", "output": "a.png", "status": "done", "key": "k", "stamp": {said}}}\n'
    (tmp_path / MANIFEST).write_text(line)
    manifest = Manifest(tmp_path / MANIFEST)
    assert manifest.key_of(tmp_path / "a.png") == "k"
    assert manifest.unchanged(tmp_path / "a.png", "", Stamp(1, 2)) is None


def test_pictures_come_back_as_they_were_given(tmp_path):
    found = [
        Found(tmp_path / "a" / "x.png", tmp_path.relative_to(tmp_path) / "x.png", named=False),
        Found(tmp_path / "b" / "x.png", tmp_path.relative_to(tmp_path) / "b" / "x.png", named=True),
        Found(tmp_path / "other.png", tmp_path.relative_to(tmp_path) / "elsewhere" / "y.png", named=False),
    ]
    pictures = Pictures(found)
    assert list(pictures) == found
    assert pictures[-1] == found[-1]
    pictures.name(0, "../a/x.png")
    pictures.name(2, "elsewhere/y.png")
    assert [pictures.path(i) for i in (0, 2)] == ["../a/x.png", "elsewhere/y.png"]
    pictures.name(1, "another")
    assert [str(one.path) for one in pictures.kept(lambda _path, named: named)] == [
        "../a/x.png",
        "another",
        "elsewhere/y.png",
    ]


def test_a_picture_that_is_done_costs_a_hundred_bytes():
    """A million fit beside a network; see `benchmarks/million.py`."""
    count = 20_000
    tracemalloc.start()
    made = Made()
    for i in range(count):
        made.done(f"{i // 1000:05}/picture{i:06}.jpg", f"{i:032x}", "0" * 32, Stamp(1000 + i, 10**18 + i))
    size, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / count < 100


def test_what_a_store_holds_is_known_by_its_place():
    listed = Listed()
    for i in range(3000):
        listed.add(f"folder/{i}.png", Stamp(i, -i))
    listed.add("folder/7.png", Stamp(70, 700))
    assert len(listed) == 3000
    assert listed.get("folder/7.png") == Stamp(70, 700)
    assert listed.get("folder/2999.png") == Stamp(2999, -2999)
    assert "folder/3000.png" not in listed
    assert listed.get("folder/3000.png") is None
