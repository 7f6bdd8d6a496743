"""``recmesh policy plot``: a surface's front as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.served_policy import served_policy
from recmesh.cli.written_data import current_dataset
from recmesh.models.model import Progress
from recmesh.offline.tuning.parameters import Parameters
from recmesh.offline.tuning.plot import Slates, write_html, write_png
from recmesh.offline.tuning.tune import Settings, Tuning
from recmesh.orchestrator.operating_point import OperatingPoint
from recmesh.orchestrator.policy import Policy, SurfacePolicy
from recmesh.storage.errors import ConfigurationError, NotFoundError
from recmesh.storage.home import Home


def _served(surface: SurfacePolicy) -> OperatingPoint | None:
    """The point that the surface stands at, if it is one of its front's."""
    for point in surface.front:
        if (
            point.model_weights == surface.model_weights
            and point.diversity_strength == surface.slate.diversity_strength
        ):
            return point
    return None


def _slates(
    home: Home, policy: Policy, surface: str, user_id: str, seed: int, progress: Progress
) -> Slates:
    """The page that each point gives to a doctor, on the validation period."""
    front = policy.surfaces[surface].front
    settings = Settings(surface=surface, metrics=tuple(front[0].metrics), seed=seed)
    dataset = current_dataset(home)
    tuning = Tuning(dataset, policy, settings, home.tuning, text_vectors=home.text_vectors)
    run = tuning.trial_run(progress)
    if user_id not in run.candidates.users:
        raise NotFoundError(
            f"{user_id} is not among the {len(run.candidates):,} users of the validation period; "
            f"one who is: {run.candidates.users[0]}"
        )
    user = run.candidates.users.index(user_id)
    titles = run.candidates.catalog.titles
    found: dict[int, list[str]] = {}
    for place, point in enumerate(front):
        chosen = run.pages(Parameters.at(point, policy.surfaces[surface])).chosen[user]
        rows = run.candidates.rows[user, chosen[chosen >= 0]]
        found[place] = [titles[row] for row in rows.tolist()]
    return found


def plot_command(
    version: Annotated[str, typer.Argument(help="Version. Default: what serves.")] = "",
    out: Annotated[Path, typer.Option(help=".html, interactive, or .png.")] = Path("front.html"),
    surface: Annotated[str, typer.Option(help="The tuned surface.")] = "feed",
    user: Annotated[
        str, typer.Option(help="A doctor: .html shows the page that each point gives them.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="The tuning's.")] = 0,
) -> None:
    """Draws a surface's front: each point's metrics, weights, and the page it gives a doctor.

    Examples:

        recmesh policy plot tuned-feed-0a1b2c3d4e5f --user d000042

        recmesh policy plot --out front.png
    """
    home = Home.from_environment()
    with clear_errors("recmesh policy plot"):
        if out.suffix not in (".html", ".png"):
            raise ConfigurationError(f"--out {out} ends in {out.suffix!r}; use .html or .png")
        policy = served_policy(home, version)
        drawn = policy.surfaces.get(surface)
        if drawn is None or not drawn.front:
            raise ConfigurationError(
                f"surface {surface!r} of policy {policy.version} has no front; run: recmesh tune"
            )
        title = f"{surface}, policy {policy.version}"
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".png":
            write_png(out, drawn.front, _served(drawn), title)
        else:
            slates: Slates = {}
            if user:
                with progress_bars(False) as bars:
                    task = bars.add_task("scores", total=None)
                    slates = _slates(
                        home,
                        policy,
                        surface,
                        user,
                        seed,
                        lambda done, total, message: bars.update(
                            task, completed=done, total=total, description=message
                        ),
                    )
                title = f"{title}, pages of {user}"
            write_html(out, drawn.front, _served(drawn), title, slates)
    typer.echo(f"{len(drawn.front)} points drawn in {out}")
