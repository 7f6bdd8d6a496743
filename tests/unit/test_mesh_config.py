from pathlib import Path

import pytest

from recmesh.deployments.deployed_models import DeployedModel, DeployedModels, OwnReplicas
from recmesh.deployments.external_model import external_models
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.models.registry import MODELS, declaration
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

EXTERNAL = '[models.x]\nplacement = "external"\naddresses = ["a:1"]\n'


def load(tmp_path: Path, text: str) -> MeshConfig:
    file = tmp_path / "mesh.toml"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    return MeshConfig.load(file)


def test_the_packaged_file_runs_every_model() -> None:
    config = MeshConfig.load()
    assert set(config.models) == set(MODELS)
    assert config.edge.address == "127.0.0.1:50051"


def test_the_environment_overrides_one_value_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECMESH_MODELS__CF__MAX_REPLICAS", "7")
    config = load(tmp_path, "[models.cf]\nmin_replicas = 2\nmax_replicas = 3\n")
    assert (config.models["cf"].min_replicas, config.models["cf"].max_replicas) == (2, 7)


def test_what_no_table_says_is_as_the_model_declares_it(tmp_path: Path) -> None:
    table = load(tmp_path, "[models.cf]\nnum_cpus = 0.7").models["cf"]
    declared = declaration("cf").replicas
    assert table.num_cpus == 0.7
    said = (table.min_replicas, table.max_replicas, table.target_inflight)
    assert said == (declared.min_replicas, declared.max_replicas, declared.target_inflight)


def test_a_deployed_model_runs_as_its_owner_said_where_no_table_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deployed = DeployedModels(Home(tmp_path).deployed)
    own = OwnReplicas(min_replicas=3, max_replicas=5, pip=("idna==3.0",))
    deployed.write(DeployedModel(name="cf", replicas=own))
    deployed.write(DeployedModel(name="network", replicas=own))
    deployed.write(DeployedModel(name="gone", replicas=own))
    (deployed.folder / "behavioral.toml").write_text("nonsense")
    file = tmp_path / "mesh.toml"
    file.write_text("[models.cf]\nmax_replicas = 2\n")
    monkeypatch.setenv("RECMESH_MODELS__NETWORK__MAX_REPLICAS", "4")
    models = MeshConfig.load(file, Home(tmp_path)).models
    assert set(models) == {"cf", "network"}
    # The SRE's bound moves the owner's, which it would contradict.
    assert (models["cf"].min_replicas, models["cf"].max_replicas) == (2, 2)
    assert (models["network"].min_replicas, models["network"].max_replicas) == (3, 4)
    assert models["network"].pip == ("idna==3.0",)
    assert MeshConfig.load(file).models["cf"].pip == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[models.cf]\nmin_replicas = 3\nmax_replicas = 2", "min_replicas 3 is above"),
        ("[models.dreams]", "models.dreams: not in"),
        ('[models.x]\nplacement = "external"', "addresses go with"),
        ('[models.cf]\naddresses = ["a:1"]', "addresses go with"),
        ('[models.x]\nplacement = "external"\naddresses = ["nowhere"]', "models.x.addresses.0"),
        (f'{EXTERNAL}version = "1"', "version goes with models that run here"),
        (f'{EXTERNAL}tls.certificate = "/a.pem"', "certificate and key go together"),
        (f'{EXTERNAL}tls.authority = "a.pem"', "models.x.tls.authority"),
        (f'{EXTERNAL}tls.ca = "/a.pem"', "models.x.tls.ca"),
        ('[models.x]\nplacement = "external"\naddresses = ["a:1", "a:1"]', "holds one twice"),
        ("[models.cf]\ntls = {}", "tls goes with placement"),
        ("[models.cf]\nreplicas = 1", "models.cf.replicas"),
        ("[edge]\nport = 1", "edge.port"),
        ('[database]\nuri = "mysql://host/db"', "database.uri"),
        ("[models.CF]", "models.CF"),
        ("nonsense", "is not TOML"),
        ("\udcff", "is not TOML"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace(".", r"\.")):
        load(tmp_path, text)


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECMESH_EGDE__ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="there is no table egde"):
        load(tmp_path, "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml"):
        MeshConfig.load(tmp_path / "nowhere.toml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        MeshConfig.load(tmp_path)


def test_a_list_that_is_not_json_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECMESH_MODELS__CF__ADDRESSES", "a:1")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        load(tmp_path, "")


def test_a_policy_is_found_from_its_file_wherever_the_command_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir("/")
    config = load(tmp_path, '[orchestrator]\npolicy = "policies/mine.toml"')
    assert config.orchestrator.policy_file == tmp_path / "policies" / "mine.toml"


def test_one_owners_broken_declaration_keeps_no_model_from_running(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "recmesh.models.registry.known_models",
        lambda: {"cf": "recmesh.models.cf", "gone": "no_such_package.model"},
    )
    monkeypatch.setattr(
        "recmesh.deployments.mesh_config.known_models", lambda: {"cf": "", "gone": ""}
    )
    models = load(tmp_path, "[models.cf]\n[models.gone]\n").models
    assert models["cf"].max_replicas == declaration("cf").replicas.max_replicas
    assert (models["gone"].min_replicas, models["gone"].max_replicas) == (1, 1)


@pytest.mark.parametrize("where", ["authority", "certificate"])
def test_a_file_that_is_no_certificate_is_refused_before_anything_starts(
    tmp_path: Path, where: str
) -> None:
    no_pem = tmp_path / "no.pem"
    no_pem.write_text("nonsense")
    tls = f'tls.{where} = "{no_pem}"\n' + (
        f'tls.key = "{no_pem}"\n' if where == "certificate" else ""
    )
    with pytest.raises(ConfigurationError, match=r"no\.pem.* PEM"):
        external_models(load(tmp_path, EXTERNAL + tls))
    elsewhere = load(tmp_path, f'{EXTERNAL}{tls}[ray]\naddress = "ray://head:10001"')
    assert external_models(elsewhere)["x"]["tls"][where] == str(no_pem)


CALLER = '[callers.feed]\nmethods = ["RecommendationService/Recommend"]\n'


def test_a_caller_has_an_identity_of_its_own_and_the_paths_of_its_methods(tmp_path: Path) -> None:
    text = CALLER + '[callers.events]\nspiffe_id = "spiffe://a.b/ns/x"\n'
    config = load(tmp_path, text + 'methods = ["FeedbackService"]\n')
    feed, events = config.callers["feed"], config.callers["events"]
    assert feed.identity("feed") == "spiffe://recmesh/caller/feed"
    assert events.identity("events") == "spiffe://a.b/ns/x"
    assert feed.paths == ("/recmesh.v1.RecommendationService/Recommend",)
    assert "/recmesh.v1.FeedbackService/RecordEvents" in events.paths
    assert not config.edge.secure
    assert MeshConfig.load(tmp_path / "mesh.toml", secure=True).edge.secure


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[edge]\nsecure = true\n", r"add one, as in \[callers.operator\]"),
        (CALLER.replace('Recommend"', 'Recomend"'), "has Recommend, Explain, Swipe"),
        (CALLER.replace("RecommendationService", "TrialService"), "is not of the contract"),
        ("[callers.feed]\nmethods = []\n", "at least 1 item"),
        (CALLER + 'priority = "urgent"\n', "critical, normal, batch"),
        (CALLER + "requests_per_s = 0\n", "greater than or equal to 1"),
        (CALLER + 'spiffe_id = "feed"\n', "callers.feed.spiffe_id"),
        (
            CALLER + CALLER.replace("feed", "b") + 'spiffe_id = "spiffe://recmesh/caller/feed"\n',
            "callers.feed, too; give each its own",
        ),
        ('[callers.x]\nmethods = ["CatalogService"]\nsurfaces = ["feed"]\n', "take surfaces out"),
        (CALLER + 'event_callers = ["app"]\n', "take event_callers out"),
        (
            CALLER.replace("RecommendationService/Recommend", "FeedbackService")
            + 'event_callers = ["a,b"]\n',
            "event_callers.0",
        ),
        ('[edge]\nkey = "/k"\n', "give all three, or none"),
    ],
)
def test_callers_that_cannot_work_are_named_with_the_fix(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(tmp_path, text)
