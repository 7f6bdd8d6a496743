"""What a page shows of the items it found: titles and snippets, what matches marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.highlighting import Highlighted, highlighted, snippet
from recmesh.orchestrator.index_source import VECTOR_INDEX
from recmesh.orchestrator.mesh import Mesh
from recmesh.storage.word_analysis import DEFAULT_LANGUAGE, analysed_query

ABSTRACT = "abstract"


@dataclass(frozen=True, slots=True)
class Shown:
    """Of one item."""

    title: Highlighted
    snippet: Highlighted


async def snippets(mesh: Mesh, request: Admitted, rows: Sequence[int], read_as: str) -> list[Shown]:
    """Title and snippet of items of the page.

    Args:
        mesh: its index holds the abstracts.
        request: asked for snippets, else there are none.
        rows: catalog rows of the items.
        read_as: the query with its spelling corrected; empty: as typed.

    Returns:
        One entry a row; empty snippets, and said, when the index does not answer.
    """
    message, embedding = request.message, request.snapshot.embedding
    if not message.snippets:
        return []
    catalog = request.catalog
    ids = [catalog.item_ids[row] for row in rows]
    abstracts: dict[str, str] = {}
    if mesh.index is not None and embedding is not None:
        index, collection = mesh.index, embedding.collection
        abstracts = (
            await request.calls.ask(
                VECTOR_INDEX,
                request.surface.source_timeout_s,
                lambda timeout_s: index.fetch(collection, ids, ABSTRACT, timeout_s=timeout_s),
            )
            or {}
        )
    languages = (request.language, DEFAULT_LANGUAGE)
    wanted = frozenset(analysed_query([message.query, read_as], languages).split())
    return [
        Shown(
            highlighted(catalog.titles[row], catalog.language(row), wanted),
            snippet(abstracts.get(item_id, ""), catalog.language(row), wanted),
        )
        for row, item_id in zip(rows, ids, strict=True)
    ]
