"""Every converter by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from recmesh.offline.datasets import (
    citeulike,
    ckm_physicians,
    lastfm_2k,
    medquad,
    movielens,
    nfcorpus,
    pubmedqa,
)
from recmesh.offline.datasets.conversion import Conversion, ConversionReport
from recmesh.storage.errors import DataError, NotFoundError

CONVERTERS: dict[str, Callable[[Path], Conversion]] = {
    "citeulike-a": citeulike.convert_a,
    "citeulike-t": citeulike.convert_t,
    "ckm-physicians": ckm_physicians.convert,
    "lastfm-2k": lastfm_2k.convert,
    "medquad": medquad.convert,
    "movielens-100k": movielens.convert_100k,
    "movielens-latest-small": movielens.convert_latest_small,
    "nfcorpus": nfcorpus.convert,
    "nfcorpus-dev": partial(nfcorpus.convert, split="dev"),
    "pubmedqa": pubmedqa.convert,
}


def convert(name: str, source: Path, out: Path) -> ConversionReport:
    """Converts a downloaded data set.

    Raises:
        NotFoundError: no such converter, or a file of the data set is missing.
        DataError: a file is not as the data set's own documentation says.
    """
    if name not in CONVERTERS:
        raise NotFoundError(f"no data set {name}; there are {', '.join(CONVERTERS)}")
    try:
        return CONVERTERS[name](source).write(out)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"{name}: no file {error.filename}") from error
    except (ValueError, LookupError, TypeError, SyntaxError, OSError) as error:
        raise DataError(f"{source} is not {name}: {error}") from error
