"""``recmesh embed export``: a quantised encoder, several times as fast."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.written_data import current_dataset
from recmesh.models.nlp.encoder import Encoder, find_weights
from recmesh.models.nlp.onnx_export import Exported, check_exportable, export
from recmesh.models.nlp.training import item_texts
from recmesh.storage.errors import DataError
from recmesh.storage.home import Home

COMPARED = 256
"""Texts of the catalogue, drawn evenly."""


def export_command(
    encoder: Annotated[str, typer.Option(help="Name or folder of an encoder in torch.")],
    as_json: Annotated[bool, typer.Option("--json", help="The outcome as JSON.")] = False,
) -> None:
    """Quantises an encoder to int8 in ONNX; its vectors are another version's.

    Compared on texts of the ingested catalogue: refused, and nothing kept, when the mean cosine
    to the vectors before is below 0.98. Needs: pip install 'recmesh[export]'

    Examples:

        recmesh embed export --encoder .recmesh/encoders/all-MiniLM-L6-v2-tuned-1a2b3c4d

        recmesh embed export --encoder all-MiniLM-L6-v2 --json
    """
    home = Home.from_environment()
    with clear_errors("recmesh embed export"):
        weights = find_weights(encoder)
        check_exportable(weights)
        texts = sorted({text for text in item_texts(current_dataset(home)) if text})
        if not texts:
            raise DataError("the ingested items have no texts to compare the vectors of")
        texts = texts[:: max(len(texts) // COMPARED, 1)][:COMPARED]
        made_from = Encoder(weights).version
        pending = home.encoders / ".exporting"
        shutil.rmtree(pending, ignore_errors=True)
        try:
            with progress_bars(as_json) as bars:
                task = bars.add_task("export", total=None)
                exported = export(
                    weights,
                    pending,
                    f"{weights.name}-quantised",
                    texts,
                    lambda done, total, what: bars.update(
                        task, completed=done, total=total, description=f"export: {what}"
                    ),
                )
            version = Encoder(exported.weights).version
            card = _card(exported, version, made_from)
            (pending / "card.json").write_text(json.dumps(card, indent=2))
            folder = home.encoders / version
            if not folder.exists():
                pending.replace(folder)
        finally:
            shutil.rmtree(pending, ignore_errors=True)
    if as_json:
        typer.echo(json.dumps(card | {"folder": str(folder)}, indent=2))
        return
    typer.echo(
        f"{version} from {made_from}: cosine of {exported.texts} texts {exported.mean_cosine:.4f} "
        f"on average, {exported.lowest_cosine:.4f} at least"
    )
    typer.echo(f"next: recmesh embed build --encoder {folder}")


def _card(exported: Exported, version: str, made_from: str) -> dict[str, object]:
    figures = asdict(exported)
    del figures["weights"]
    return {"version": version, "made_from": made_from, **figures}
