"""MedQuAD: medical questions and answers of NIH sites, each one an article."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from recmesh.offline.datasets.conversion import Conversion

WITHDRAWN = frozenset({"10_MPlus_ADAM_QA", "11_MPlusDrugs_QA", "12_MPlusHerbsSupplements_QA"})
"""Folders whose answers the authors removed, to respect MedlinePlus' copyright."""

ABSTRACT = 300
"""Characters of the answer that stand in the abstract, cut at a sentence or word."""


def _documents(source: Path) -> Iterator[tuple[str, str, bytes]]:
    """Folder, file name without suffix, and content of every document."""
    if source.is_dir():
        for file in sorted(source.rglob("*.xml")):
            yield file.parent.name, file.stem, file.read_bytes()
        return
    with tarfile.open(source) as archive:
        for member in archive:
            # Finder's "._name" companions end in .xml too.
            path = PurePosixPath(member.name)
            if path.suffix != ".xml" or path.name.startswith("._"):
                continue
            stream = archive.extractfile(member)
            if stream:
                yield path.parent.name, path.stem, stream.read()


def _text(element: ElementTree.Element | None) -> str:
    return " ".join((element.text or "").split()) if element is not None else ""


def _first(document: ElementTree.Element, *names: str) -> ElementTree.Element | None:
    """First element of one of the names; four documents use a second spelling of all."""
    found = (document.find(f".//{name}") for name in names)
    return next((element for element in found if element is not None), None)


def _opening(answer: str) -> str:
    if len(answer) <= ABSTRACT:
        return answer
    head = answer[:ABSTRACT]
    cut = head.rfind(". ") + 1
    return head[:cut] if cut > ABSTRACT // 3 else head.rpartition(" ")[0]


def _item(
    folder: str, document: ElementTree.Element, pair: ElementTree.Element, name: str
) -> dict[str, Any]:
    question, answer = _first(pair, "Question", "question"), _first(pair, "Answer", "answer")
    qid = question.get("qid", "") if question is not None else ""
    focus = _text(_first(document, "Focus", "doctitle-focus"))
    site = document.get("source") or document.get("corpus", "")
    text = _text(answer)
    return {
        "item_id": f"{folder}/{name}/{qid}",
        "content_type": "article",
        "title": _text(question),
        "abstract": _opening(text),
        "body": text,
        # Not the semantic group: nearly all have "Disorders", which would part nothing.
        "topics": [focus] if focus else [],
        "language": "en",
        "authors": [site],
    }


def convert(source: Path) -> Conversion:
    """Items of a folder or ``.tar.gz``; pairs without an answer are counted and left out.

    Ids are ``folder/document/question``: question numbers alone repeat among documents.
    """
    items: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for folder, name, content in _documents(source):
        document = ElementTree.fromstring(content)
        for pair in (*document.iter("QAPair"), *document.iter("pair")):
            item = _item(folder, document, pair, name)
            if not item["title"]:
                left_out["pairs without a question"] += 1
            elif item["body"]:
                items.append(item)
            elif folder in WITHDRAWN:
                left_out["answers withdrawn for MedlinePlus' copyright"] += 1
            else:
                left_out["answers empty in the source"] += 1
    return Conversion({"items": items}, left_out)
