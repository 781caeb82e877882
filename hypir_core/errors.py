"""Every error this project raises on purpose, in one tree.

HypirError
├─ ConfigError(ValueError)               bad or unknown setting; lists every problem at once
├─ UnknownNameError(LookupError, ValueError)   engine, preset, mode …, with the nearest match and the full list
├─ WrongTypeError(TypeError)             a thing of another kind than expected, such as a number for a class
├─ ShapeError(ValueError)                a tensor of the wrong shape
├─ RangeError(ValueError)                values outside the stated range, NaN or infinity
├─ ImageFileError                        a picture that cannot be read or written
├─ CaptionError                          no caption to be had: no server, no key, no model, no text file
├─ WeightsError                          a weight file that cannot be used
│  ├─ SpecMissingError                   no `hypir.spec` where one is needed
│  ├─ SpecMismatchError                  rank, modules, shapes or base model differ; shows both sides
│  └─ WeightsNotFoundError               lists every place that was tried
├─ MissingDependencyError(ImportError)   names the extra to install
├─ OutOfMemoryError(RuntimeError)        memory ran out on the last rung of the ladder; says what to try
├─ Cancelled                             the caller asked to stop
└─ TrainingDivergedError(RuntimeError)   step, term, value

A message says what was expected, what came, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HypirError(Exception):
    """Base of every error raised on purpose."""


class ConfigError(HypirError, ValueError):
    """A setting is wrong or unknown; `problems` holds every problem found, one line each."""

    def __init__(self, problems: str | Iterable[str]):
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class UnknownNameError(HypirError, LookupError, ValueError):
    """A name that nothing is registered under."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        super().__init__(
            f"unknown {kind} {name!r}{nearest_hint(name, self.known)}; known: {', '.join(self.known) or 'none'}"
        )


class WrongTypeError(HypirError, TypeError):
    """A thing is of another kind than expected."""


class ShapeError(HypirError, ValueError):
    """A tensor has the wrong shape."""


class RangeError(HypirError, ValueError):
    """Values lie outside the stated range, or are not finite."""


class FileError(HypirError):
    """A file that is no picture cannot be read or written: a manifest, a report, a list."""


class ImageFileError(FileError):
    """A picture cannot be read or written."""


class CaptionError(HypirError):
    """No words for a picture could be had."""


class WeightsError(HypirError):
    """A weight file cannot be used."""


class SpecMissingError(WeightsError):
    """The file carries no `hypir.spec` metadata where one is needed."""


class SpecMismatchError(WeightsError):
    """The file does not fit the model it is meant for."""


class WeightsNotFoundError(WeightsError):
    """No usable file was found in any of the places that were tried."""


class MissingDependencyError(HypirError, ImportError):
    """An optional package is not installed; without an `extra` that holds it, it is installed by its own name."""

    def __init__(self, package: str, extra: str | None, purpose: str):
        self.package, self.extra = package, extra
        wanted = f"'onestep-restore[{extra}]'" if extra else package
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed; run: pip install {wanted}"
        )


class OutOfMemoryError(HypirError, RuntimeError):
    """Memory ran out although every rung of the ladder was taken."""


class Cancelled(HypirError):  # noqa: N818  # a request, not a fault
    """The caller asked to stop."""


class TrainingDivergedError(HypirError, RuntimeError):
    """A loss, gradient or weight is not finite, or far beyond what it was; `advice` says what to do."""

    def __init__(
        self,
        step: int,
        term: str,
        value: float,
        *,
        advice: str = "lower the learning rate or the weight of this term",
    ):
        self.step, self.term, self.value = step, term, value
        super().__init__(f"training diverged at step {step}: {term} = {value}; {advice}")


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
