"""Development certificates and tokens: made once, private, renewed in time."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.deployments import development_credentials
from recmesh.deployments.caller_table import CallerTable
from recmesh.deployments.development_credentials import (
    CERTIFICATE_DAYS,
    DevelopmentCredentials,
    identity_in,
)
from recmesh.storage.errors import ConfigurationError, NotFoundError

FEED = {"feed": CallerTable(methods=("RecommendationService",))}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_making_again_changes_nothing_and_keys_are_private(tmp_path: Path) -> None:
    made = DevelopmentCredentials(tmp_path / "c")
    made.make(FEED, "10.0.0.1")
    before = contents(tmp_path)
    made.make(FEED, "10.0.0.1")
    assert contents(tmp_path) == before
    keys = list(tmp_path.rglob("*.key"))
    assert len(keys) == 4
    assert all(key.stat().st_mode & 0o777 == 0o600 for key in keys)
    assert identity_in(made.caller("feed").certificate) == "spiffe://recmesh/caller/feed"
    authority = x509.load_pem_x509_certificate(made.authority.read_bytes())
    edge = x509.load_pem_x509_certificate(made.edge.certificate.read_bytes())
    edge.verify_directly_issued_by(authority)
    names = edge.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "10.0.0.1" in map(str, names.get_values_for_type(x509.IPAddress))


def test_what_ends_soon_is_made_anew_by_the_same_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = DevelopmentCredentials(tmp_path)
    monkeypatch.setattr(development_credentials, "CERTIFICATE_DAYS", 9)
    made.make(FEED, "")
    before = contents(tmp_path)
    monkeypatch.setattr(development_credentials, "CERTIFICATE_DAYS", CERTIFICATE_DAYS)
    made.make(FEED, "")
    after = contents(tmp_path)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"edge.pem", "edge.key", "callers/feed.pem", "callers/feed.key"}


def test_rays_certificate_is_its_own_authority_and_outlives_a_mesh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = DevelopmentCredentials(tmp_path / "c")
    made.make_ray()
    before = contents(tmp_path)
    assert set(before) == {"c/ray.pem", "c/ray.key"}
    assert made.ray.key.stat().st_mode & 0o777 == 0o600
    own = x509.load_pem_x509_certificate(made.ray.certificate.read_bytes())
    own.verify_directly_issued_by(own)
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["127.0.0.1"]
    made.make(FEED, "")  # as every hour, while Ray has read it
    made.make_ray()
    assert before.items() <= contents(tmp_path).items()
    monkeypatch.setattr(development_credentials, "RAY_RENEW_DAYS", 4000)
    made.make_ray()
    assert contents(tmp_path)["c/ray.pem"] != before["c/ray.pem"]


def test_another_identity_or_authority_makes_another_certificate(tmp_path: Path) -> None:
    made = DevelopmentCredentials(tmp_path)
    made.make(FEED, "")
    other = CallerTable(methods=("RecommendationService",), spiffe_id="spiffe://x/feed")
    made.make({"feed": other}, "")
    assert identity_in(made.caller("feed").certificate) == "spiffe://x/feed"
    before = made.caller("feed").certificate.read_bytes()
    (tmp_path / "authority.key").unlink()
    made.make({"feed": other}, "")
    assert made.caller("feed").certificate.read_bytes() != before


def test_a_token_says_who_to_whom_and_until_when(tmp_path: Path) -> None:
    made = DevelopmentCredentials(tmp_path)
    with pytest.raises(ConfigurationError, match="up --secure makes one"):
        made.token("s", "i", "a", 1)
    made.make(FEED, "")
    token = made.token("spiffe://recmesh/caller/feed", "issuer", "audience", 2)
    [known] = json.loads(made.token_keys.read_text())["keys"]
    key = jwt.PyJWK(known)
    assert "d" not in known
    said = jwt.decode(token, key, ["ES256"], audience="audience", issuer="issuer")
    assert said["sub"] == "spiffe://recmesh/caller/feed"
    assert said["exp"] - said["iat"] == 7200
    with pytest.raises(ConfigurationError, match="at most 720"):
        made.token("s", "i", "a", 721)


def test_what_is_missing_or_damaged_is_said_with_the_fix(tmp_path: Path) -> None:
    made = DevelopmentCredentials(tmp_path)
    made.make(FEED, "")
    with pytest.raises(NotFoundError, match="there are feed"):
        made.caller("other")
    (tmp_path / "edge.pem").write_text("nonsense")
    with pytest.raises(ConfigurationError, match="remove the folder"):
        made.make(FEED, "")


def test_the_command_prints_a_token_for_a_caller_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    DevelopmentCredentials(tmp_path / "credentials").make({}, "")
    done = CliRunner().invoke(app, ["edge", "token", "operator"])
    claims = jwt.decode(done.stdout.strip(), options={"verify_signature": False})
    assert claims["sub"] == "spiffe://recmesh/caller/operator"
    refused = CliRunner().invoke(app, ["edge", "token", "nobody"])
    assert refused.exit_code == 1
    assert "there are operator" in refused.stderr
