"""MedQuAD: medical questions and answers of NIH sites, each one an article."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from recmesh.offline.datasets.tables import Rows


def _documents(source: Path) -> Iterator[bytes]:
    if source.is_dir():
        for file in sorted(source.rglob("*.xml")):
            yield file.read_bytes()
        return
    with tarfile.open(source) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.endswith(".xml") else None
            if stream:
                yield stream.read()


def convert(source: Path) -> Rows:
    """Items of a folder or ``.tar.gz``; pairs without an answer are left out."""
    items = []
    for text in _documents(source):
        document = ElementTree.fromstring(text)
        site = document.get("source", "")
        topics = [document.findtext("Focus", ""), document.findtext(".//SemanticGroup", "")]
        for pair in document.iter("QAPair"):
            question = pair.find("Question")
            answer = (pair.findtext("Answer") or "").strip()
            if question is None or not answer:
                continue
            items.append(
                {
                    "item_id": f"{site}-{question.get('qid', '')}",
                    "content_type": "article",
                    "title": (question.text or "").strip(),
                    "body": answer,
                    "topics": [topic.strip() for topic in topics if topic and topic.strip()],
                    "language": "en",
                    "authors": [site],
                }
            )
    return {"items": items}
