"""Every converter by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recmesh.offline.datasets import lastfm_2k, medquad, movielens
from recmesh.offline.datasets.tables import Rows, write_tables
from recmesh.storage.errors import DataError, NotFoundError

CONVERTERS: dict[str, Callable[[Path], Rows]] = {
    "lastfm-2k": lastfm_2k.convert,
    "medquad": medquad.convert,
    "movielens-100k": movielens.convert_100k,
    "movielens-latest-small": movielens.convert_latest_small,
}


def convert(name: str, source: Path, out: Path) -> dict[str, int]:
    """Converts a downloaded data set. Returns the rows by table.

    Raises:
        NotFoundError: no such converter, or a file of the data set is missing.
        DataError: a file is not as the data set's own documentation says.
    """
    if name not in CONVERTERS:
        raise NotFoundError(f"no data set {name}; there are {', '.join(CONVERTERS)}")
    try:
        return write_tables(CONVERTERS[name](source), out)
    except FileNotFoundError as error:
        raise NotFoundError(f"{name}: no file {error.filename}") from error
    except (ValueError, LookupError, TypeError, SyntaxError) as error:
        raise DataError(f"{source} is not {name}: {error}") from error
