"""What the page does: a handler turns what was set into one call of the library, and its result into what is shown."""

from __future__ import annotations

import shutil
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ..caption.catalog import load_captioner
from ..config import build, to_plain
from ..engines.catalog import ENGINES
from ..errors import ConfigError, HypirError
from ..files.picture import to_planes
from ..files.reading import read_picture
from ..measure.forecast import forecast
from ..measure.memory import free_ram_bytes
from ..request import Request
from ..runtime import Runtime
from . import panels
from .engine import HeldEngine
from .fields import changed_options
from .page import BY_SIDE, Widgets, example_files, target_of
from .pictures import show, show_pair, write_mask
from .running import Asked, Done, Seen, watch
from .sessions import Session, Sessions
from .settings import PageSettings
from .uploads import size_of, take_in

Changes = dict[Any, Any]
"""Widget → its new value."""


class Acting:
    """The handlers of one server."""

    def __init__(self, on: Widgets, settings: PageSettings, sessions: Sessions, engines: HeldEngine):
        self.on, self.settings, self.sessions, self.engines = on, settings, sessions, engines
        self._laying = threading.Lock()

    def take_pictures(self, paths: list[str] | None, request: gr.Request) -> Changes:
        """Take in what was uploaded, and show the first picture."""
        session = self.sessions.of(request.session_hash)
        with session.in_use():
            taken = take_in([Path(path) for path in paths or ()], session, self.settings)
            return self._shown(taken.pictures, taken.problems, session)

    def take_example(self, chosen: int, request: gr.Request) -> Changes:
        """Take one of the examples instead of what is there."""
        session = self.sessions.of(request.session_hash)
        source = example_files()[chosen]
        with session.in_use():
            copy = Path(shutil.copy(source, session.new_folder()))
            return self._shown((copy,), (), session)

    def _shown(self, pictures: Sequence[Path], problems: Sequence[str], session: Session) -> Changes:
        on, problems = self.on, list(problems)
        first = None
        if pictures:
            try:
                first = str(show(pictures[0], session.new_folder() / "before.jpg"))
            except HypirError as err:
                problems.append(f"{pictures[0].name}: {'; '.join(str(err).splitlines())}")
                pictures = pictures[1:]
        return {
            on.pictures: [str(path) for path in pictures] or None,
            on.notice: gr.HTML(panels.notice(problems), visible=bool(problems)),
            on.before: gr.Image(first, visible=first is not None),
            on.compare: gr.ImageSlider(visible=False),
            on.mask: None if first is None else {"background": first, "layers": [], "composite": None},
            on.run: gr.Button(interactive=bool(pictures)),
            on.panel: gr.HTML(visible=False),
            on.download: gr.DownloadButton(visible=False),
            on.results: gr.File(visible=False),
        }

    def choose_engine(self, name: str) -> Changes:
        """Show what an engine is, what it needs and what can be set of it."""
        changes: Changes = {self.on.about: self.about(name)}
        for engine, (panel, options) in self.on.own.items():
            changes[panel] = gr.Accordion(visible=engine == name and bool(options))
        return changes

    def about(self, name: str) -> str:
        """Return what an engine is, and what it still needs."""
        entry = ENGINES.entry(name)
        needed = [f"start the page with `hypir web {flag} …`" for flag in self.settings.still_needed(name)]
        missing = () if self.settings.options_for(name) else entry.load().missing()()
        return panels.engine_line(entry.summary, [*needed, *missing])

    def choose_size(self, size_by: str) -> Changes:
        """Show the one number that says how large the result is."""
        by_side = size_by == BY_SIDE
        return {
            self.on.scale: gr.Slider(visible=not by_side),
            self.on.longest_side: gr.Number(visible=by_side),
        }

    def foresee(self, values: Mapping[Any, Any]) -> str:
        """Say what a run would take."""
        try:
            asked = self._asked(values)
            if not asked.pictures:
                return panels.forecast_line("Add a picture, or choose an example.")
            sizes = [size_of(path) for path in asked.pictures]
            height, width = max(sizes, key=lambda size: size[0] * size[1])
            with self._laying:
                engine = self.engines.shapes(asked.engine, asked.options)
                expected = forecast(
                    engine,
                    (1, engine.spec.in_channels, height, width),
                    asked.request,
                    Runtime(device=self.engines.device),
                    free_bytes=free_ram_bytes(),
                )
        except HypirError as err:
            return panels.forecast_line("; ".join(str(err).splitlines()), is_bad=True)
        words = [str(expected), *expected.notes]
        if len(sizes) > 1:
            words[0] = f"{len(sizes)} pictures, the largest: {words[0]}"
        if expected.seconds is None:
            words[0] += " · the time is known after the first run"
        return panels.forecast_line("; ".join(words), is_bad=bool(expected.notes))

    def describe(self, paths: list[str] | None, request: gr.Request) -> str:
        """Return what the first picture shows, in the words of the captioner."""
        session = self.sessions.of(request.session_hash)
        session.stop.clear()
        if not paths:
            raise gr.Error("add a picture first", title="Nothing to describe", print_exception=False)
        source = self._own(paths, session)[0]
        try:
            with session.in_use():
                captioner = load_captioner(self.settings.captioner, self.settings.captioner_options)
                color_01, _alpha = to_planes(read_picture(source))
                try:
                    return captioner(color_01, source=source, should_stop=session.stop.is_set)
                finally:
                    captioner.unload()
        except HypirError as err:
            raise gr.Error(
                "; ".join(str(err).splitlines()), title="No words", duration=None, print_exception=False
            ) from err

    def get_ready(self, request: gr.Request) -> Changes:
        """Forget an earlier wish to stop, and wait for the turn."""
        self.sessions.of(request.session_hash).stop.clear()
        on = self.on
        return {
            on.run: gr.Button(interactive=False),
            on.stop: gr.Button(interactive=True),
            on.panel: gr.HTML(panels.waiting("waiting for the turn"), visible=True),
            on.notice: gr.HTML(visible=False),
            on.download: gr.DownloadButton(visible=False),
            on.results: gr.File(visible=False),
        }

    def stop(self, request: gr.Request) -> None:
        """Stop what runs for this page, after the tile that is being made."""
        self.sessions.of(request.session_hash).stop.set()

    def restore(self, values: Mapping[Any, Any], request: gr.Request) -> Iterator[Changes]:
        """Restore the pictures; yields what is seen of it."""
        session, on = self.sessions.of(request.session_hash), self.on
        try:
            asked = self._asked(values, session)
            asked = _with_mask(asked, values[on.mask], session)
        except HypirError as err:
            yield self._ended(
                Seen(whole=0.0, words="; ".join(str(err).splitlines()), error=str(err), is_over=True)
            )
            return
        for seen in watch(asked, session, self.engines):
            if seen.is_over:
                with session.in_use():
                    yield self._ended(seen) | self._results(seen.done, session)
                return
            hidden = {} if seen.canvas is None else {on.before: gr.Image(visible=False)}
            yield {on.panel: panels.panel(seen), on.compare: gr.ImageSlider(visible=False), **hidden}

    def give_up(self) -> Changes:
        """Let another run begin after one that ended in a fault of this program; Gradio shows that."""
        on = self.on
        return {
            on.panel: gr.HTML(visible=False),
            on.run: gr.Button(interactive=True),
            on.stop: gr.Button(interactive=False),
        }

    def close(self, request: gr.Request) -> None:
        """Remove everything of a page that was closed."""
        self.sessions.close(request.session_hash)

    def _asked(self, values: Mapping[Any, Any], session: Session | None = None) -> Asked:
        on = self.on
        paths = values[on.pictures] or []
        _panel, options = on.own[values[on.engine]]
        wishes = {
            "target": target_of(values[on.size_by], values[on.scale], values[on.longest_side]),
            "tile": {"tile_px": values[on.tile] or None, "overlap_px": values[on.overlap] or None},
            "prompt": values[on.prompt] or "",
            "seed": values[on.seed] or 0,
            "color_fix": values[on.color_fix],
            "color_strength": values[on.color_strength],
            "strength": values[on.strength],
            "edge_enhance": values[on.edge_enhance],
            "sharpen": values[on.sharpen],
        }
        return Asked(
            pictures=tuple(map(Path, paths)) if session is None else self._own(paths, session),
            engine=values[on.engine],
            options=changed_options([option for option, _ in options], [values[w] for _, w in options]),
            request=build(Request, wishes, where="request"),  # a browser's 1 is a float here
            format=values[on.format],
        )

    @staticmethod
    def _own(paths: Sequence[str], session: Session) -> tuple[Path, ...]:
        """Return the paths, all of which are this page's.

        Raises:
            ConfigError: one is not; only a forged request can name it.
        """
        found = tuple(map(Path, paths))
        strange = [path.name for path in found if not session.holds(path)]
        if strange or not found:
            raise ConfigError(
                f"expected pictures of this page, got {', '.join(strange) or 'none'}; add them again"
            )
        return found

    def _ended(self, seen: Seen) -> Changes:
        on = self.on
        return {
            on.panel: gr.HTML(panels.panel(seen), visible=True),
            on.run: gr.Button(interactive=True),
            on.stop: gr.Button(interactive=False),
        }

    def _results(self, done: Sequence[Done], session: Session) -> Changes:
        on = self.on
        made = [one for one in done if one.report is not None]
        if not made:
            return {on.before: gr.Image(visible=True)}
        last = made[-1]
        pair = show_pair(last.source, last.output, session.new_folder())
        file = last.output if len(made) == 1 else _bundle([one.output for one in made], session)
        label = f"Download {file.name}" if len(made) == 1 else f"Download all {len(made)} as {file.name}"
        reports = [to_plain(one.report) for one in made]
        return {
            on.compare: gr.ImageSlider(
                None if pair is None else (str(pair[0]), str(pair[1])),
                label=f"{last.source.name}: before | after",
                visible=pair is not None,
            ),
            on.before: gr.Image(visible=pair is None),
            on.download: gr.DownloadButton(label, value=str(file), visible=True),
            on.results: gr.File([str(one.output) for one in made], visible=len(made) > 1),
            on.report: reports[0] if len(reports) == 1 else reports,
        }


def _with_mask(asked: Asked, painted: Mapping[str, Any] | None, session: Session) -> Asked:
    """Return the wish with the mask that was painted.

    Raises:
        ConfigError: it was painted for one picture of several.
    """
    layers: list[np.ndarray] = painted["layers"] if painted else []
    if not any(np.any(layer[:, :, 3]) for layer in layers):
        return asked
    first, *others = asked.pictures
    if others:
        raise ConfigError(
            "a part was painted, and there are several pictures: clear the paint, or leave one picture"
        )
    folder = session.new_folder()
    mask = write_mask(layers, size_of(first), folder / "mask.png")
    return replace(asked, mask=mask)


def _bundle(files: Sequence[Path], session: Session) -> Path:
    """Return an archive of all results; they are compressed already."""
    target = session.new_folder() / "restored.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            archive.write(file, file.name)
    return target
