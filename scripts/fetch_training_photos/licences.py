"""Which licences a training picture may have, and how Debian's machine-readable copyright files are read.

The format is Debian's "copyright-format 1.0": paragraphs divided by blank lines, fields that go on in indented lines,
`Files:` with shell patterns where a later paragraph wins over an earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

ALLOWED = re.compile(r"public-domain|PD|CC0(-1\.0)?|CC-BY-(1\.0|2\.0|2\.5|3\.0|4\.0)", re.IGNORECASE)
"""Short names (whole) of the licences that allow any use, at most against attribution."""
SHARE_ALIKE = re.compile(r"\bby-(nc-)?(sa|nd|nc)\b", re.IGNORECASE)
"""Words that make a paragraph doubtful although its short name is allowed: a title or link that says otherwise."""

MADE_UP = re.compile(r"\bai[_-]generated|midjourney|stable[_-]diffusion", re.IGNORECASE)
"""Words in the name of a picture that no camera took."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a package says about one of its files."""

    licence: str
    """Short name, such as CC-BY-4.0."""
    author: str
    """Holder, in the package's words; empty where none is named."""
    link: str = ""
    """Where the picture comes from, where the package says so."""


def refusal(terms: Terms | None, path: str = "") -> str | None:
    """Why a picture under these terms, with this path, may not be trained on; None where it may."""
    if MADE_UP.search(path):
        return "its name says that no camera took it"
    if terms is None:
        return "no terms are stated for it"
    if not ALLOWED.fullmatch(terms.licence):
        return f"licence {terms.licence or '(none named)'} is not on the list"
    if SHARE_ALIKE.search(f"{terms.author} {terms.link}"):
        return f"named {terms.licence}, but its origin says otherwise ({terms.link})"
    if terms.licence.upper().startswith("CC-BY") and not terms.author:
        return f"licence {terms.licence} asks for an author, none is named"
    return None


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each paragraph, names in lower case, values with the line breaks they had."""
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            begins = re.match(r"([A-Za-z-]+):(.*)", line)
            if begins:
                name = begins[1].lower()
                fields[name] = begins[2].strip()
            elif name:
                fields[name] += "\n" + line.strip()
        if fields:
            yield fields


def terms_by_file(copyright_text: str, *names: str) -> Terms | None:
    """Return the terms of a source file: those of the last `Files` paragraph with a pattern that matches a name of it.

    A file has several names where it was repacked after the paragraph was written, as from .jpg to .webp.
    """
    found = None
    for fields in paragraphs(copyright_text):
        if any(fnmatchcase(name, pattern) for pattern in fields.get("files", "").split() for name in names):
            link = re.search(r"https?://\S+", fields.get("comment", ""))
            first_line = fields.get("license", "").split("\n")[0]
            author = " ".join(fields.get("copyright", "").split())
            found = Terms(
                licence=first_line.strip(),
                author="" if author.lower() == "none" else author,
                link=link[0] if link else "",
            )
    return found
