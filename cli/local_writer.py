"""The catalog's writer in this process, for when no mesh runs."""

from __future__ import annotations

from recmesh.cli.written_data import mesh_config
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys


def local_writer(home: Home) -> CatalogWriter:
    """A writer that indexes nothing, and is to be started."""
    config = mesh_config(home)
    keys = SigningKeys.load_or_make(config.attribution.keys_of(home))
    return CatalogWriter(
        home,
        config.database.uri,
        None,
        "",
        AttributionTokens(keys),
        policy=config.orchestrator.policy_file,
        campaigns=config.campaigns,
        decisions=config.decisions,
        events=config.events,
    )
