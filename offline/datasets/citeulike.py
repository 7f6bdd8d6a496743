"""citeulike-a and citeulike-t (Wang, Chen and Li): researchers' libraries, tags, citations.

In ``users.dat``, ``item-tag.dat``, ``tag-item.dat`` and ``citations.dat`` a line is a list:
its length, then row numbers from 0. Line n belongs to user, item or tag n.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recmesh.offline.datasets.conversion import Conversion

NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""The data has no times. One moment for all says so, and cannot pass for an order."""

LONGEST_TITLE = 160
"""Characters of the title of citeulike-t, whose texts do not mark where it ends."""


def _text(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _lines(file: Path) -> list[str]:
    # Not splitlines: Latin-1 texts hold characters that it takes for line ends.
    return _text(file).removesuffix("\n").replace("\r\n", "\n").split("\n")


def _lists(file: Path) -> list[list[str]]:
    lists = []
    for number, line in enumerate(_lines(file), 1):
        length, *entries = line.split() or ["0"]
        if int(length) != len(entries):
            raise ValueError(f"{file.name} line {number}: {len(entries)} entries, not {length}")
        lists.append(entries)
    return lists


def _conversion(
    source: Path, papers: Sequence[tuple[str, str]], tags_of: Mapping[str, Sequence[str]]
) -> Conversion:
    """Joins titles and abstracts, topics by item id, and the files that both sets share."""
    libraries = _lists(source / "users.dat")
    citations = _lists(source / "citations.dat")
    rows: dict[str, list[dict[str, Any]]] = {
        "items": [
            {
                "item_id": str(number),
                "content_type": "article",
                "title": title or "(no title)",
                "abstract": abstract,
                "topics": tags_of.get(str(number), ()),
                "language": "en",
            }
            for number, (title, abstract) in enumerate(papers)
        ],
        "users": [{"user_id": str(number)} for number in range(len(libraries))],
        "events": [
            {
                "event_id": f"{user}-{item}",
                "user_id": str(user),
                "item_id": item,
                "event_type": "click",
                "time": NO_TIME,
            }
            for user, library in enumerate(libraries)
            for item in dict.fromkeys(library)
        ],
    }
    pairs = [
        (str(citing), cited) for citing, all_cited in enumerate(citations) for cited in all_cited
    ]
    repeats = sum(len(library) - len(set(library)) for library in libraries)
    return Conversion(rows, {"repeats within a library": repeats}, citations=pairs)


def convert_a(source: Path) -> Conversion:
    """Folder with raw-data.csv, users.dat, item-tag.dat, tags.dat and citations.dat."""
    papers: list[tuple[str, str]] = []
    reader = csv.DictReader(io.StringIO(_text(source / "raw-data.csv"), newline=""))
    for row in reader:
        number = len(papers) + 1
        if int(row["doc.id"]) != number:
            raise ValueError(f"raw-data.csv: doc.id {row['doc.id']} where {number} is due")
        papers.append((row["raw.title"].strip(), row["raw.abstract"].strip()))
    names = [line.strip() for line in _lines(source / "tags.dat")]
    lists = _lists(source / "item-tag.dat")
    tags_of = {str(item): [names[int(t)] for t in tags] for item, tags in enumerate(lists)}
    return _conversion(source, papers, tags_of)


def convert_t(source: Path) -> Conversion:
    """Folder with rawtext.dat, users.dat, tag-item.dat, tags.dat and citations.dat.

    ``rawtext.dat`` holds a line ``##n`` before the text of item n. Nothing marks the title's
    end, so the text up to the first full stop or 160 characters is taken for it.
    """
    texts: list[str] = []
    for line in _lines(source / "rawtext.dat"):
        if line.startswith("##") and line[2:].strip().isdigit():
            if int(line[2:]) not in (len(texts), len(texts) + 1):
                raise ValueError(f"rawtext.dat: {line} where ##{len(texts)} is due")
            texts.append("")
        elif not texts:
            raise ValueError("rawtext.dat does not start with ##")
        else:
            texts[-1] = f"{texts[-1]} {line.strip()}".strip()
    names = [line.strip() for line in _lines(source / "tags.dat")]
    tags_of: dict[str, list[str]] = defaultdict(list)
    for name, items in zip(names, _lists(source / "tag-item.dat"), strict=True):
        for item in items:
            tags_of[item].append(name)
    return _conversion(source, [_split(text) for text in texts], tags_of)


def _split(text: str) -> tuple[str, str]:
    head = text[:LONGEST_TITLE]
    stop = head.find(". ")
    if stop >= 0:
        return head[: stop + 1], text[stop + 2 :]
    if len(text) > LONGEST_TITLE:
        head = head.rpartition(" ")[0] or head
    return head, text[len(head) :].strip()
