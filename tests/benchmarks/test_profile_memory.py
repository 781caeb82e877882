"""The memory of a profile, measured on tiny networks: that the command works, and what its rows hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import profile_memory
from hypir_core.profile import profile_names

GOLDEN = Path(__file__).parents[1] / "golden" / "seesr"


@pytest.fixture
def tiny_files(monkeypatch) -> None:
    """The golden set in place of the written weights: same layout, another list of tags."""
    found = {
        "base_model": str(GOLDEN / "sd-turbo"),
        "seesr": str(GOLDEN / "seesr"),
        "tagger": str(GOLDEN / "ram/ram_swin_large_14m.pth"),
        "tag_list": str(GOLDEN / "ram"),
    }
    monkeypatch.setattr(profile_memory, "files", lambda _weights: found)


@pytest.mark.parametrize("name", ["speed", "memory"])
def test_a_row_says_what_was_held_and_what_it_took(name, tiny_files):
    row = profile_memory.measure(name, GOLDEN, 512, "cpu")
    assert (row["profile"], row["size_px"]) == (name, 512)
    assert "CPU" in row["device"]
    assert 0 < row["loaded_mib"] <= row["peak_mib"]
    assert next(iter(row["stages"])) == "encode"
    assert list(row["stages"])[-1] == "decode"


def test_the_profiles_that_are_measured_are_those_of_the_table():
    assert {"speed", "balanced", "quality", "memory", "6gb", "8gb", "12gb", "24gb"} <= set(profile_names())
