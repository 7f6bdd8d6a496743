"""What the replicas of a model wrote, read on whatever node each of them is.

A replica's words are in files of its node's log folder: what Serve logs for it, and what its
process prints. A task on each node reads there, so that it works without Ray's dashboard.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from recmesh.deployments.model_app import application_of
from recmesh.storage.errors import UnavailableError

ANSWER_S = 20.0
MOST_BYTES = 1_000_000
"""Read of a file at once; of a longer one, its end."""
HEAD_BYTES = 1000
"""Within these, a process' output says whose it is."""
RAYS_OWN = re.compile(r"^:(job_id|actor_name|task_name):.*\n?", re.MULTILINE)

Found = dict[str, tuple[str, str, int]]
"""By file: whose it is, whole lines, and the position at which they end."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one replica."""

    replica: str
    """Its id, or its process; before that, the version if not the live application's."""
    text: str


@dataclass(slots=True)
class ReplicaLogs:
    """The logs of one model, versions beside the live one and trials included.

    Needs a joined cluster.

    Remembers how far it has read, so that the next :meth:`read` has only what is new.
    """

    model: str
    _read: dict[str, dict[str, int]] = field(default_factory=dict)
    """Bytes read, by node and file."""

    def read(self, last: int = 0) -> list[LogLine]:
        """Lines that were not read yet, each replica's in order; those of ended replicas too.

        Args:
            last: of each file, this many; 0: all.

        Raises:
            UnavailableError: no node answers.
        """
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        found: list[LogLine] = []
        failed: list[str] = []
        for node in nodes:
            at = NodeAffinitySchedulingStrategy(node, soft=False)
            task = ray.remote(_read_here).options(num_cpus=0, scheduling_strategy=at)
            try:
                said = ray.get(task.remote(self.model, self._read.get(node, {})), timeout=ANSWER_S)
            except (RayError, TimeoutError) as error:
                failed.append(type(error).__name__)
                continue
            for file, (replica, text, end) in said.items():
                self._read.setdefault(node, {})[file] = end
                found.extend(LogLine(replica, line) for line in text.splitlines()[-last:])
        if failed and len(failed) == len(nodes):
            raise UnavailableError(f"no node of the cluster answers: {', '.join(failed)}")
        return found


def _log_folder() -> Path:
    """Of this process' node."""
    # Ray has no public name for it; Serve's own log handler finds it in the same way.
    return Path(ray._private.worker._global_node.get_logs_dir_path())


def _read_here(model: str, read: Mapping[str, int]) -> Found:
    """Runs on the node."""
    return read_logs(_log_folder(), model, read)


def read_logs(folder: Path, model: str, read: Mapping[str, int]) -> Found:
    """What a node's log files hold of a model's replicas after the bytes ``read`` of each."""
    found: Found = {}
    for file, replica in sorted(_files(folder, model), key=lambda one: one[0].stat().st_mtime):
        name = str(file.relative_to(folder))
        start = max(read.get(name, 0), file.stat().st_size - MOST_BYTES)
        with file.open("rb") as opened:
            opened.seek(start)
            content = opened.read(MOST_BYTES)
        whole = content[: content.rfind(b"\n") + 1]
        if whole:
            text = RAYS_OWN.sub("", whole.decode(errors="replace"))
            found[name] = replica, text, start + len(whole)
    return found


def _files(folder: Path, model: str) -> Iterator[tuple[Path, str]]:
    """Log files of a model's replicas, and whose each is."""
    application = re.escape(application_of(model)) + r"(?:@(?P<beside>[^_:]+))?"
    logged = re.compile(rf"replica_{application}_.*_(?P<id>[^_]+)\.log")
    for file in (folder / "serve").glob("replica_*.log"):
        if match := logged.fullmatch(file.name):
            yield file, _whose(match, match["id"])
    printed = re.compile(rf"^:actor_name:ServeReplica:{application}:", re.MULTILINE)
    for file in folder.glob("worker-*"):
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES).decode(errors="replace")
        if match := printed.search(head):
            yield file, _whose(match, f"process {file.stem.rpartition('-')[2]}")


def _whose(match: re.Match[str], replica: str) -> str:
    return f"{match['beside']} {replica}" if match["beside"] else replica
