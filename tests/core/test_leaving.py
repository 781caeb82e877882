"""A run that ends early gives the device back: its networks go home. One that ended well leaves them where they work."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

import hypir_core.residency
from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.batch.naming import Job
from hypir_core.batch.restoring import Writing, restore_file
from hypir_core.chained import restore_through
from hypir_core.clip.one_sample import OneSample
from hypir_core.engines.base import Engine
from hypir_core.engines.chain import Chain, Link
from hypir_core.engines.diffusion.engine import Diffusion
from hypir_core.errors import Cancelled, RangeError
from hypir_core.files.scenes.memory import MemorySink
from hypir_core.files.scenes.scene import ArrayScene
from hypir_core.files.source import ArraySource
from hypir_core.scenes.plan import bands_of, factors_of, order_of
from hypir_core.scenes.restoring import restore_scene
from hypir_core.streaming import restore_stream
from tests.core.scene_samples import ramp, write_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "seesr"
SEESR = {
    "base_model": str(GOLDEN / "sd-turbo"),
    "seesr": str(GOLDEN / "seesr"),
    "tagger": str(GOLDEN / "ram" / "ram_swin_large_14m.pth"),
    "tagger_lora": str(GOLDEN / "ram" / "DAPE.pth"),
    "tag_list": str(GOLDEN / "ram"),
    "process_px": 96,
}
CPU = torch.device("cpu")
TWICE = Request(target=TargetSize(scale=2), seed=1)

ENGINES = {
    "seesr": ("seesr", SEESR, {"UNet2DConditionModel", "ControlNetModel", "AutoencoderKL", "Ram"}),
    "seesr, one at a time": (
        "seesr",
        SEESR | {"residency": "one_at_a_time"},
        {"UNet2DConditionModel", "AutoencoderKL"},
    ),
    "one-step": ("one-step", {"random_weights": "tiny"}, {"UNet2DConditionModel", "AutoencoderKL"}),
    "built-in": ("built-in", {}, {"Compact"}),
}
"""Engine, its options, some of its networks by class."""


class Books:
    """Stands in for a device: writes down where every network was sent last. Home is told from the device's name.

    A network that nobody holds any more is in no book.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self._away: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
        home, move = torch.device("cpu", 0), nn.Module.to  # the same memory under another name

        def to(net: nn.Module, *given, **named):
            if given and isinstance(given[0], str | torch.device):
                self._away[net] = torch.device(given[0]) != home
            return move(net, *given, **named)

        monkeypatch.setattr(hypir_core.residency, "HOME", home)
        monkeypatch.setattr(nn.Module, "to", to)

    @property
    def known(self) -> set[str]:
        """Classes of the networks that were moved."""
        return self._named(self._away)

    @property
    def away(self) -> set[str]:
        """Classes of the networks that were not sent home last."""
        return self._named(net for net, away in self._away.items() if away)

    @staticmethod
    def _named(nets: Iterable[nn.Module]) -> set[str]:
        gc.collect()
        parts = [part for net in nets for part in (net if isinstance(net, nn.ModuleList) else [net])]
        return {type(part).__name__ for part in parts}


@pytest.fixture
def books(monkeypatch):
    return Books(monkeypatch)


@cache
def loaded(name: str) -> Engine:
    engine_name, options, _ = ENGINES[name]
    return load_engine(engine_name, options, device=CPU, dtype="float32")


def picture() -> Tensor:
    """Return a new picture: a tagger remembers those that it has seen."""
    return torch.rand(1, 3, 48, 64)


def cancel_late(runtime: Runtime, stages: int) -> Runtime:
    """Stop at the question before the last stage: by then all networks have worked."""
    asked = iter(range(100))
    return replace(runtime, should_stop=lambda: next(asked) >= stages - 1)


def break_late(runtime: Runtime, stages: int) -> Runtime:
    """Fail between two stages, where no tile is run."""
    seen = iter(range(100))

    def inspect(_name: str, _image: Tensor, _seconds: float) -> None:
        if next(seen) >= stages:
            raise RangeError("a value that is no number")

    return replace(runtime, inspect=inspect)


def interrupt(runtime: Runtime, stages: int) -> Runtime:
    """As Ctrl+C does, in the middle of a tile's report."""
    told = iter(range(100))

    def progress(_tick) -> None:
        if next(told) >= stages - 1:
            raise KeyboardInterrupt

    return replace(runtime, progress=progress)


@pytest.mark.parametrize(
    ("name", "ends", "error"),
    [
        ("seesr", cancel_late, Cancelled),
        ("seesr", break_late, RangeError),
        ("seesr", interrupt, KeyboardInterrupt),
        ("seesr, one at a time", cancel_late, Cancelled),
        ("one-step", cancel_late, Cancelled),
        ("one-step", break_late, RangeError),
        ("built-in", break_late, RangeError),
    ],
)
def test_a_run_that_ends_early_sends_its_networks_home(
    name: str, ends: Callable[[Runtime, int], Runtime], error: type[BaseException], books: Books
):
    engine, nets = loaded(name), ENGINES[name][2]
    photo = picture()
    well = restore(engine, photo, TWICE, Runtime())
    assert books.away
    assert books.known >= nets
    stays = books.away
    with pytest.raises(error):
        restore(engine, picture(), TWICE, ends(Runtime(batch_tiles=1), len(well.report.stages)))
    assert books.away == set()
    again = restore(engine, photo, TWICE, Runtime())
    assert torch.equal(again.image_01, well.image_01)
    assert books.away == stays - {"Ram"}  # it remembers the picture, and is not brought for it


def test_books_of_the_residency_are_closed(books: Books):
    engine = loaded("seesr")
    assert isinstance(engine, Diffusion)
    residents = engine.codec.encoding.leave.__self__  # type: ignore[attr-defined]
    restore(engine, picture(), TWICE, Runtime())
    assert set(residents.live) == {"vae", "unet", "controlnet control"}
    with pytest.raises(Cancelled):
        restore(engine, picture(), TWICE, cancel_late(Runtime(), 4))
    assert residents.live == ()


def test_a_tagger_that_fails_leaves_too(books: Books):
    """The picture is looked at before the first stage; where networks take turns, it is out of memory afterwards."""
    for residency in ("one_at_a_time", "keep"):
        engine = loaded("seesr" if residency == "keep" else "seesr, one at a time")
        restore(engine, picture(), TWICE, Runtime())

        def breaks(net: nn.Module, _given) -> None:
            if type(net).__name__ == "Ram":
                raise RuntimeError("broken")

        hook = register_module_forward_pre_hook(breaks)
        try:
            with pytest.raises(RuntimeError, match="broken"):
                restore(engine, picture(), TWICE, Runtime())
        finally:
            hook.remove()
        assert books.away == set()
        assert ("Ram" in books.known) == (residency == "keep")


def test_a_clips_engine_leaves_like_its_own(books: Books):
    engine = OneSample(loaded("built-in"))
    restore(engine, picture(), TWICE, Runtime())
    assert books.away
    with pytest.raises(Cancelled):
        restore(engine, picture(), TWICE, Runtime(should_stop=lambda: True))
    assert books.away == set()


def test_streams_and_scenes_leave_too(books: Books):
    engine = loaded("built-in")

    class Full:
        def write(self, start_row, rows):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        restore_stream(engine, ArraySource(np.zeros((32, 32, 3), np.uint8)), Full(), TWICE, Runtime())
    assert books.known
    assert books.away == set()

    scene = ArrayScene(Path("planes"), np.full((3, 32, 32), 0.5, np.float32), "cyx")
    restore(engine, picture(), TWICE, Runtime())
    assert books.away
    sink = MemorySink(
        scene.grid,
        order_of(engine.spec, scene),
        factors_of(engine, scene, TWICE),
        bands_of(engine.spec, scene),
    )
    with pytest.raises(Cancelled):
        restore_scene(engine, scene, sink, TWICE, Runtime(should_stop=lambda: True))
    assert books.away == set()


def stop_in_the_second_half() -> Runtime:
    """Cancel a chain of two when its first engine is done."""
    told = [0.0]
    return Runtime(
        batch_tiles=1,
        progress=lambda tick: told.append(tick.whole),
        should_stop=lambda: told[-1] > 0.499,
    )


def chain_of(*engines: Engine) -> Chain:
    return Chain(tuple(Link(engine=engine) for engine in engines))


def test_every_engine_of_a_chain_leaves_when_a_later_one_is_stopped(books: Books):
    """Also where one of them cannot: the others leave all the same."""
    made = chain_of(loaded("one-step"), loaded("built-in"))
    photo = picture()
    well = restore_through(made, photo, Request(seed=1), Runtime())
    every = {"UNet2DConditionModel", "AutoencoderKL", "Compact"}
    assert books.away >= every
    with pytest.raises(Cancelled):
        restore_through(made, photo, Request(seed=1), stop_in_the_second_half())
    assert books.known >= every
    assert books.away == set()
    assert torch.equal(restore_through(made, photo, Request(seed=1), Runtime()).image_01, well.image_01)


def test_every_engine_of_a_chain_over_a_scene_leaves_when_a_later_one_is_stopped(books: Books, tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")
    source, output = tmp_path / "in.tif", tmp_path / "out.ome.tif"
    tifffile.imwrite(source, ramp(3, 20, 24), imagej=True, metadata={"axes": "ZYX"})
    weights = {"weights": str(write_weights(tmp_path / "net.safetensors", 1))}
    made = chain_of(*(load_engine("upscaler", weights, device=CPU) for _ in range(2)))
    restore_file(made, Job(source, output), Request(), Runtime(), writing=Writing())
    assert books.away == {"Compact"}
    writing = Writing(force=True)
    with pytest.raises(Cancelled):
        restore_file(made, Job(source, output), Request(), stop_in_the_second_half(), writing=writing)
    assert books.away == set()


def test_a_visitor_who_stops_the_page_frees_the_device(books: Books, tmp_path):
    from PIL import Image

    from hypir_core.web.engine import HeldEngine
    from hypir_core.web.running import Asked, watch
    from hypir_core.web.sessions import Sessions
    from hypir_core.web.settings import PageSettings

    Image.new("RGB", (64, 48), (90, 60, 30)).save(tmp_path / "photo.png")
    sessions = Sessions()
    session = sessions.of("a")
    engines = HeldEngine(PageSettings(device="cpu", dtype="float32"), None)
    asked = Asked(
        pictures=(tmp_path / "photo.png",),
        engine="seesr",
        options=SEESR,
        request=TWICE,
    )
    try:
        assert list(watch(asked, session, engines))[-1].error is None
        assert books.away
        unet = engines.get("seesr", asked.options).denoiser.placing.shared.norms.net[0]
        session.stop.clear()
        hook = unet.register_forward_hook(lambda *_: session.stop.set())
        last = list(watch(asked, session, engines))[-1]
        hook.remove()
    finally:
        sessions.close_all()
    assert last.error is not None
    assert "stopped in stage" in last.error
    assert books.known >= {"UNet2DConditionModel", "ControlNetModel", "AutoencoderKL"}
    assert books.away == set()


def test_a_device_that_cannot_be_left_does_not_hide_why(caplog, monkeypatch):
    engine = loaded("built-in")

    def broken(_self) -> None:
        raise RuntimeError("device-side assert")

    monkeypatch.setattr(type(engine), "leave", broken)
    with pytest.raises(Cancelled):
        restore(engine, picture(), TWICE, Runtime(should_stop=lambda: True))
    assert "could not be taken off the device" in caplog.text
