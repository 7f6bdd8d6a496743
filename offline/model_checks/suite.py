"""The checks as a pytest suite, for the repository of a model's owner.

::

    from recmesh.offline.model_checks.suite import suite

    TestMyModel = suite("my_model")

One test a check. Pytest is needed where this is used, not where RecMesh is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import Any

from recmesh.offline.model_checks.judged import judged
from recmesh.offline.model_checks.registry import CHECKS
from recmesh.offline.model_checks.result import Status
from recmesh.offline.model_checks.target import opened
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home


def suite(
    target: str,
    *,
    home: Home | None = None,
    seed: int = 0,
    version: str = "",
    skip: Collection[str] = (),
) -> type:
    """A class of tests; give it a name that begins with ``Test``.

    Args:
        target: as of ``recmesh model check``: a model's name or folder, or ``host:port``.
        home: folder of artifacts and data; None: ``RECMESH_HOME``.
        seed: of users, items and trainings.
        version: of the artifact; empty: the live one.
        skip: ids of checks that are left out.

    Raises:
        ConfigurationError: ``skip`` names a check that does not exist.
    """
    import pytest

    unknown = [name for name in skip if name not in CHECKS]
    if unknown:
        raise ConfigurationError(f"skip: no check {', '.join(unknown)}; {', '.join(CHECKS)}")

    class Checks:
        """One test a check; the model is served once for all of them."""

        @pytest.fixture(scope="class")
        def subject(self) -> Iterator[Any]:
            with asyncio.Runner() as runner:
                context = opened(
                    target, home or Home.from_environment(), seed=seed, version=version
                )
                found = runner.run(context.__aenter__())
                try:
                    yield runner, found
                finally:
                    runner.run(context.__aexit__(None, None, None))

        @pytest.mark.parametrize("check", [name for name in CHECKS if name not in skip])
        def test(self, check: str, subject: Any) -> None:
            runner, model = subject
            result = runner.run(judged(model, CHECKS[check])).result
            runner.run(model.revive())
            if result.status is Status.NOT_CHECKED:
                pytest.skip(result.said)
            if result.status is Status.FAILED:
                pytest.fail(f"{result.said}\n{result.number}\n{result.fix}", pytrace=False)

    return Checks
