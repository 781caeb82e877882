"""What stands behind the page: options from the catalog, sessions that leave nothing, uploads, masks, what is said."""

from __future__ import annotations

import sys
import tempfile

import numpy as np
import pytest
from PIL import Image

from hypir_core.engines.catalog import ENGINES
from hypir_core.engines.settings import options_of
from hypir_core.errors import Cancelled, ConfigError, MissingDependencyError
from hypir_core.files.reading import read_picture
from hypir_core.web.pictures import write_mask
from hypir_core.web.sessions import Sessions
from hypir_core.web.settings import PageSettings
from hypir_core.web.uploads import take_in


@pytest.fixture
def sessions():
    made = Sessions()
    yield made
    made.close_all()


def test_options_come_from_the_catalog_and_start_at_its_defaults():
    from hypir_core.web.fields import OF_THE_MACHINE, changed_options, shown_options, start_of

    counts = {}
    for name in ENGINES.names():
        options = shown_options(name, PageSettings())
        counts[name] = len(options)
        assert changed_options(options, [start_of(option) for option in options]) == {}
        for option in options:
            assert option.name not in OF_THE_MACHINE
            assert option.kind is not str  # nothing that could name a file
    assert counts["built-in"] == 0
    assert counts["one-step"] >= 3
    assert counts["seesr"] >= 10
    options = [o for o in shown_options("seesr", PageSettings()) if o.name in {"threshold", "steps"}]
    typed = ["0.5" if option.name == "threshold" else 4 for option in options]
    assert changed_options(options, typed) == {"threshold": 0.5, "steps": 4}


def test_what_was_given_at_the_start_is_fixed():
    from hypir_core.web.fields import shown_options

    settings = PageSettings(given={"lora_strength": 0.5})
    assert "lora_strength" not in {option.name for option in shown_options("one-step", settings)}
    assert settings.options_for("one-step") == {"lora_strength": 0.5}
    assert settings.options_for("built-in") == {}
    assert settings.still_needed("upscaler") == ["--weights"]
    assert PageSettings(given={"weights": "x"}).still_needed("upscaler") == []


def test_wrong_settings_are_told_before_the_start():
    with pytest.raises(ConfigError, match="lora_strength must be from 0 to 2"):
        PageSettings(given={"lora_strength": 5.0}).check()
    PageSettings().check()  # an engine that is not whole by its defaults keeps nobody from the others
    with pytest.raises(ConfigError, match="port must be from 1 to 65535, got 0"):
        PageSettings(port=0)
    must = {o.name for n in ENGINES.names() for o in options_of(n, ENGINES.get(n).options) if o.must_be_given}
    assert must == {"weights", "decoder"}


def test_a_page_that_is_closed_while_it_works_is_removed_afterwards(sessions):
    session = sessions.of("a")
    assert sessions.of("a") is session
    with session.in_use():
        (session.new_folder() / "half").write_text("x")
        sessions.close("a")
        assert session.stop.is_set()
        assert session.folder.exists()
    assert not session.folder.exists()
    with pytest.raises(Cancelled, match="closed"), session.in_use():
        pass
    assert sessions.of("a") is not session


def test_the_browsers_word_makes_no_path(sessions):
    session = sessions.of("../../../etc")
    assert session.folder.parent == sessions.root
    assert not session.holds(session.folder / ".." / ".." / "x")
    assert not session.holds(sessions.of("b").folder / "x")
    assert session.holds(session.folder / "1" / "x")


def test_uploads_are_moved_whole_or_refused_and_removed(sessions, tmp_path):
    session = sessions.of("a")
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[:20])
    (tmp_path / "large.png").write_bytes(content + bytes(5000))
    # A header that promises 100 000 × 100 000 px.
    (tmp_path / "bomb.png").write_bytes(content[:16] + (100_000).to_bytes(4, "big") * 2 + content[24:])
    Image.new("L", (5, 5)).save(tmp_path / "third.png")
    paths = [
        tmp_path / name for name in ("cut.png", "large.png", "bomb.png", "gone.png", "a.png", "third.png")
    ]
    taken = take_in(paths, session, PageSettings(max_upload_bytes=4000, max_pictures=1))
    assert [path.read_bytes() for path in taken.pictures] == [content]
    assert session.holds(taken.pictures[0])
    assert list(tmp_path.iterdir()) == []
    said = dict(problem.split(": ", 1) for problem in taken.problems)
    assert sorted(said) == ["bomb.png", "cut.png", "gone.png", "large.png", "third.png"]
    assert "at most 4.0 kB" in said["large.png"]
    assert "pixels" in said["bomb.png"]
    assert "at most 1 at a time" in said["third.png"]
    assert all("\n" not in problem and str(tmp_path) not in problem for problem in taken.problems)
    again = take_in(taken.pictures, session, PageSettings())
    assert again.pictures == taken.pictures


def test_a_painted_mask_is_white_where_there_is_paint(tmp_path):
    layer = np.zeros((10, 20, 4), np.uint8)
    assert write_mask([layer], (20, 40), tmp_path / "none.png") is None
    layer[:, :10] = (255, 64, 129, 153)  # as the brush paints
    mask = write_mask([layer, np.zeros_like(layer)], (20, 40), tmp_path / "mask.png")
    assert mask is not None
    grey = read_picture(mask).color_hwc[..., 0]
    assert grey.shape == (20, 40)
    assert (grey[:, :17] == 255).all()
    assert (grey[:, 23:] == 0).all()


def test_what_comes_from_a_file_is_text_and_no_markup(tmp_path):
    from hypir_core.web.panels import engine_line, forecast_line, notice, panel
    from hypir_core.web.running import Done, Seen

    evil = "<img src=x onerror=alert(1)>"
    done = Done(source=tmp_path / f"{evil}.png", output=tmp_path / "o.png", report=None, error=evil)
    seen = Seen(whole=1.0, words=evil, done=(done,), error=evil, is_over=True)
    for html in (notice([evil]), panel(seen), forecast_line(evil), engine_line(evil, [evil])):
        assert "<img" not in html
        assert "&lt;img" in html


def test_without_gradio_the_command_to_install_it_is_told(monkeypatch, tmp_path):
    from hypir_core.web.serving import serving

    for name in [name for name in sys.modules if name.startswith("hypir_core.web.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(MissingDependencyError, match=r"pip install 'onestep-restore\[web\]'"),
        serving(PageSettings()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
