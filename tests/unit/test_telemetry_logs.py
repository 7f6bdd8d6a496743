from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from recmesh.deployments.logs import log_as
from recmesh.deployments.private_errors import told
from recmesh.storage.errors import UnavailableError
from recmesh.storage.telemetry.current_call import CURRENT_CALL, CurrentCall, identify


@pytest.fixture(autouse=True)
def _own_set_up() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    CURRENT_CALL.set(None)


def test_a_line_says_whose_request_it_belongs_to(capsys: pytest.CaptureFixture[str]) -> None:
    log_as("json", "cf")
    CURRENT_CALL.set(CurrentCall(trace_id="ab" * 16))
    identify("r-1", "feed")
    structlog.get_logger().warning("slow", took_s=2)
    line = json.loads(capsys.readouterr().out)
    assert (
        line
        | {
            "event": "slow",
            "level": "warning",
            "application": "cf",
            "request_id": "r-1",
            "trace_id": "ab" * 16,
            "took_s": 2,
        }
        == line
    )


def test_outside_of_requests_a_line_says_nothing_of_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_as("text", "cf")
    CURRENT_CALL.set(None)
    structlog.get_logger().info("started")
    out = capsys.readouterr().out
    assert "started" in out
    assert "request_id" not in out


def test_an_exception_is_logged_by_type_and_place_without_its_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_as("json", "cf")
    try:
        {}["d000042"]
    except KeyError:
        structlog.get_logger().exception("model failed")
    out = capsys.readouterr().out
    assert "KeyError" in out
    assert "test_telemetry_logs.py" in out
    assert "d000042" not in out


def test_errors_of_our_own_are_said_and_so_is_what_caused_them() -> None:
    try:
        try:
            raise ValueError("query: heart")
        except ValueError as error:
            raise UnavailableError("the index is away") from error
    except UnavailableError as error:
        said = told(error)
    assert said.startswith("UnavailableError: the index is away < ")
    assert "because of ValueError < " in said
    assert "heart" not in said
