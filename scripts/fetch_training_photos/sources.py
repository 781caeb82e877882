"""The packages that pictures are taken from, and where each of them states the terms of a picture.

Only packages that were made to ship pictures, or that ship them as samples. Three kinds: files whose terms stand in
the package's copyright file, files inside Qt resources (same), and samples whose terms stand in a text beside them.
"""

from __future__ import annotations

import bz2
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from licences import Terms, terms_by_file
from qt_resources import members

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A picture of a package, before its terms are judged."""

    package: str
    """Name of the Debian package."""
    path: str
    """Its path in the package's source, as its terms name it."""
    content: bytes
    """The picture's file."""
    terms: Terms | None
    """What the package says about it."""


@dataclass(frozen=True, kw_only=True)
class Wallpapers:
    """Pictures that lie as files, with their terms in the package's copyright file."""

    package: str
    """Name of the Debian package."""
    folder: str
    """Installed folder of the pictures."""
    source_folder: str
    """The same folder in the package's source, as the copyright file names it."""
    pattern: str = "*"
    """Which files of the folder."""

    def pictures(self, root: Path) -> Iterator[Found]:
        """Yield the pictures of the package unpacked in `root`."""
        stated = copyright_text(root, self.package)
        for path in sorted((root / self.folder).glob(self.pattern)):
            if path.suffix.lower() in PICTURE_ENDINGS:
                source = self.source_folder + path.relative_to(root / self.folder).as_posix()
                terms = terms_by_file(stated, source)
                yield Found(package=self.package, path=source, content=path.read_bytes(), terms=terms)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Pictures inside Qt resource files, with their terms in the package's copyright file."""

    package: str
    """Name of the Debian package."""
    folder: str
    """Installed folder of the resource files."""
    cut: str
    """Beginning of the paths in the resources that the source does not have."""

    def pictures(self, root: Path) -> Iterator[Found]:
        """Yield the pictures of the package unpacked in `root`."""
        stated = copyright_text(root, self.package)
        for resource in sorted((root / self.folder).glob("*.rcc")):
            for path, content in members(resource.read_bytes()):
                if path.lower().endswith(PICTURE_ENDINGS):
                    source = path.removeprefix(self.cut)
                    stem = source.rpartition(".")[0]
                    terms = terms_by_file(stated, source, *(stem + ending for ending in PICTURE_ENDINGS))
                    yield Found(package=self.package, path=source, content=content, terms=terms)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture and the words, in a text of the same package, that state its terms."""

    file: str
    """Path in the folder."""
    says: str
    """Pattern that the text must hold, over line breaks; where it does not, the picture has no terms."""
    licence: str
    """Short name of what the words say."""
    author: str
    """Whom to name."""
    link: str = ""
    """Where it comes from."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Pictures of a library, with their terms in its documentation."""

    package: str
    """Name of the Debian package."""
    folder: str
    """Installed folder of the pictures."""
    text: str
    """The file in which the terms stand."""
    samples: tuple[Sample, ...]
    """The pictures."""

    def pictures(self, root: Path) -> Iterator[Found]:
        """Yield the pictures of the package unpacked in `root`."""
        stated = " ".join((root / self.text).read_text(encoding="utf-8").split())
        for sample in self.samples:
            content = (root / self.folder / sample.file).read_bytes()
            if sample.file.endswith(".dat"):
                content = raccoon_png(content)
            terms = None
            if re.search(sample.says, stated):
                terms = Terms(licence=sample.licence, author=sample.author, link=sample.link)
            yield Found(package=self.package, path=sample.file, content=content, terms=terms)


def copyright_text(root: Path, package: str) -> str:
    """Return the copyright file of an unpacked package."""
    return (root / "usr/share/doc" / package / "copyright").read_text(encoding="utf-8")


def raccoon_png(packed: bytes) -> bytes:
    """Return SciPy's `face.dat` (bzip2 of 768×1024×3 bytes) as a PNG file."""
    from PIL import Image

    out = BytesIO()
    Image.frombytes("RGB", (1024, 768), bz2.decompress(packed)).save(out, "PNG")
    return out.getvalue()


def stated_in(function: str, words: str) -> str:
    """Pattern: the documentation of `function`, and in it, before the next function, `words`."""
    return rf"def {function}\((?:(?!\bdef ).)*{words}"


def of_releases(name: str, releases: str, folder: str, source_folder: str = "") -> Iterator[Wallpapers]:
    """Yield the packages NAME-RELEASE of Ubuntu; `{}` in the folders is the release."""
    for release in releases.split():
        yield Wallpapers(
            package=f"{name}-{release}",
            folder=folder.format(release),
            source_folder=source_folder.format(release),
        )


PYTHON = "usr/lib/python3/dist-packages"
BACKGROUNDS = "usr/share/backgrounds"
CINNAMON = f"{BACKGROUNDS}/ubuntucinnamon/{{}}"
XFCE = "usr/share/xfce4/backdrops"
SOURCES = (
    Wallpapers(package="lomiri-wallpapers-16.04", folder=BACKGROUNDS, source_folder="16.04/"),
    Wallpapers(package="budgie-backgrounds", folder=f"{BACKGROUNDS}/budgie", source_folder="backgrounds/"),
    *of_releases(
        "budgie-wallpapers",
        "xenial cosmic disco eoan focal groovy hirsute impish kinetic lunar mantic plucky",
        f"{BACKGROUNDS}/budgie",
    ),
    *of_releases("ubuntu-wallpapers", "yakkety zesty artful focal", BACKGROUNDS),
    *of_releases("ubuntucinnamon-wallpapers", "eoan focal groovy", CINNAMON, f"{CINNAMON}/"),
    *of_releases("xubuntu-community-wallpapers", "xenial bionic focal jammy", XFCE, f"{XFCE}/"),
    Wallpapers(
        package="libjxl-testdata",
        folder="usr/share/libjxl-testdata/external/wesaturate/500px",
        source_folder="external/wesaturate/500px/",
        pattern="*_srgb8.png",
    ),
    Resources(package="gcompris-qt-data", folder="usr/share/gcompris-qt/rcc", cut="/gcompris/"),
    Samples(
        package="python3-skimage",
        folder=f"{PYTHON}/skimage/data",
        text=f"{PYTHON}/skimage/data/_fetchers.py",
        # astronaut, chelsea and coffee are left out: they are the project's examples, which the restorer is tried on
        samples=(
            Sample(
                file="camera.png",
                says=stated_in("camera", r"CC0 by the photographer \(Lav Varshney\)"),
                licence="CC0",
                author="Lav Varshney",
            ),
            Sample(
                file="rocket.jpg",
                says=stated_in("rocket", "released in the public domain"),
                licence="public-domain",
                author="SpaceX",
            ),
            Sample(
                file="brick.png",
                says=stated_in("brick", "under the Creative Commons CC0 License"),
                licence="CC0",
                author="CC0Textures",
            ),
            Sample(
                file="gravel.png",
                says=stated_in("gravel", "under the Creative Commons CC0 License"),
                licence="CC0",
                author="CC0Textures",
            ),
            Sample(
                file="grass.png",
                says=stated_in(
                    "grass", "under the Creative Commons CC0 License|licensed under the .{0,30}CC0"
                ),
                licence="CC0",
                author="DeckTwelve, OpenGameArt",
            ),
        ),
    ),
    Samples(
        package="python3-sklearn",
        folder=f"{PYTHON}/sklearn/datasets/images",
        text=f"{PYTHON}/sklearn/datasets/images/README.txt",
        samples=(
            Sample(
                file="china.jpg",
                says=r"Image: china\.jpg Released under a creative commons license\. \[1\].*?licenses/by/2\.0/",
                licence="CC-BY-2.0",
                author="danielbuechele",
                link="https://www.flickr.com/photos/danielbuechele/6061409035/",
            ),
            Sample(
                file="flower.jpg",
                says=r"Image: flower\.jpg Released under a creative commons license\. \[1\].*?licenses/by/2\.0/",
                licence="CC-BY-2.0",
                author="vultilion",
                link="https://www.flickr.com/photos/vultilion/6056698931/",
            ),
        ),
    ),
    Samples(
        package="python3-scipy",
        folder=f"{PYTHON}/scipy/misc",
        text=f"{PYTHON}/scipy/misc/_common.py",
        samples=(
            Sample(
                file="face.dat",
                says=r"raccoon-procyon-lotor\.jpg at http://www\.public-domain-image\.com",
                licence="public-domain",
                author="public-domain-image.com",
            ),
        ),
    ),
)
