"""A catalog that follows changes row by row, without building everything anew."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.catalog import Catalog, Int64, TermSets

_TERM_SETS = ("content_types", "topics", "specialties", "countries", "languages", "off_label")
_TEXTS = ("titles", "sponsors")
_ARRAYS = ("lead_author", "published_unix_s", "expires_unix_s", "popularity")


@dataclass(frozen=True)
class _Edit:
    """Which rows stay, which are overwritten, and where new ones go."""

    kept: npt.NDArray[np.intp] | None
    """Rows that stay; None: all."""
    overwritten: npt.NDArray[np.intp]
    """Rows, before any leaves."""
    by: npt.NDArray[np.intp]
    """Rows of the changed that overwrite them."""
    at: npt.NDArray[np.intp]
    """Places among those that stay, ascending, before which new rows go."""
    new: npt.NDArray[np.intp]
    """Rows of the changed that are new, in that order."""

    @property
    def keeps_rows(self) -> bool:
        """Whether every row is where it was."""
        return self.kept is None and not len(self.new)

    def on(self, old: npt.NDArray[Any], changed: npt.NDArray[Any]) -> npt.NDArray[Any]:
        edited = old.copy()
        edited[self.overwritten] = changed[self.by]
        if self.kept is not None:
            edited = edited[self.kept]
        return np.insert(edited, self.at, changed[self.new], axis=0) if len(self.new) else edited

    def on_texts(self, old: list[str], changed: list[str]) -> list[str]:
        texts: list[str] = self.on(np.array(old, object), np.array(changed, object)).tolist()
        return texts


def _joined(edit: _Edit, old: TermSets, changed: TermSets) -> TermSets:
    """Terms keep their bits; new terms get the next ones."""
    vocabulary = dict(old.vocabulary)
    # Codes of old terms may have gaps where the empty term was.
    following = max(vocabulary.values(), default=-1) + 1
    for term in changed.vocabulary:
        if term not in vocabulary:
            vocabulary[term] = following
            following += 1
    words = max(old.bits.shape[1], -(-following // 64))
    bits = np.zeros((len(changed.bits), words), np.uint64)
    for term, code in changed.vocabulary.items():
        has = (changed.bits[:, code // 64] >> np.uint64(code % 64)) & np.uint64(1)
        to = vocabulary[term]
        bits[:, to // 64] |= has << np.uint64(to % 64)
    wide = np.pad(old.bits, ((0, 0), (0, words - old.bits.shape[1])))
    return TermSets(vocabulary, edit.on(wide, bits))


class LiveCatalog:
    """The newest catalog, and how to make the next one.

    Rows that were ingested stand in their order, and others follow by id: so the same rows
    stand the same way in every replica, whichever changes led there and in what order.
    """

    def __init__(self, ingested: Catalog) -> None:
        self._place_of = ingested.row_of
        self._places: Int64 = np.arange(len(ingested), dtype=np.int64)
        self.current = ingested

    def apply(self, version: str, changed: Catalog, gone: Sequence[str]) -> Catalog:
        """The next catalog.

        Args:
            version: its version.
            changed: rows that are new or replace the rows of their ids; ids are distinct.
            gone: ids that leave; unknown ones change nothing.
        """
        edit = self._edit(changed, gone)
        old = self.current
        fields: dict[str, Any] = {
            name: _joined(edit, getattr(old, name), getattr(changed, name)) for name in _TERM_SETS
        }
        fields |= {name: edit.on(getattr(old, name), getattr(changed, name)) for name in _ARRAYS}
        fields |= {
            name: edit.on_texts(getattr(old, name), getattr(changed, name)) for name in _TEXTS
        }
        ids = old.item_ids
        if not edit.keeps_rows:
            ids = edit.on_texts(ids, changed.item_ids)
            places = self._places if edit.kept is None else self._places[edit.kept]
            self._places = np.insert(places, edit.at, self._place(changed, edit.new))
        self.current = replace(
            old,
            version=version,
            item_ids=ids,
            **fields,
        )
        if edit.keeps_rows:
            self.current.__dict__["row_of"] = old.row_of
        self.current.prepare()
        return self.current

    def with_popularity(self, version: str, popularity: dict[str, float]) -> Catalog:
        """The next catalog, in which these ids' popularity differs."""
        values = self.current.popularity.copy()
        for item_id, value in popularity.items():
            row = self.current.row_of.get(item_id)
            if row is not None:
                values[row] = value
        row_of = self.current.row_of
        self.current = replace(self.current, version=version, popularity=values)
        self.current.__dict__["row_of"] = row_of
        self.current.prepare()
        return self.current

    def _place(self, changed: Catalog, rows: npt.NDArray[np.intp]) -> Int64:
        """Place among the ingested; their number for those who are not."""
        last = len(self._place_of)
        ids = changed.item_ids
        return np.array([self._place_of.get(ids[row], last) for row in rows.tolist()], np.int64)

    def _edit(self, changed: Catalog, gone: Sequence[str]) -> _Edit:
        rows = self.current.rows(changed.item_ids)
        by = np.flatnonzero(rows >= 0)
        leaving = self.current.rows(list(gone))
        leaving = leaving[leaving >= 0]
        kept = None
        places = self._places
        if len(leaving):
            kept = np.delete(np.arange(len(places)), leaving)
            places = places[kept]
        new = np.flatnonzero(rows < 0)
        at = np.empty(0, np.intp)
        if len(new):
            new_places = self._place(changed, new)
            names = [changed.item_ids[row] for row in new.tolist()]
            order = sorted(range(len(new)), key=lambda i: (new_places[i], names[i]))
            new, new_places = new[order], new_places[order]
            names = [names[i] for i in order]
            at = np.searchsorted(places, new_places)
            # After the ingested ones, by id.
            first = int(np.searchsorted(places, len(self._place_of)))
            ids = self.current.item_ids
            others = range(first, len(places)) if kept is None else kept[first:].tolist()
            by_id = [ids[row] for row in others]
            for i in np.flatnonzero(new_places == len(self._place_of)).tolist():
                at[i] = first + bisect_left(by_id, names[i])
        return _Edit(kept, rows[by].astype(np.intp), by, at, new)
