"""The stages of a retraining: snapshot, train, gate, build, shadow, switch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, field
from datetime import UTC, datetime

from recmesh.cli.candidate_training import InThisProcess, Trainer, Training, trainer_on_ray
from recmesh.cli.embed_build import build, only_build
from recmesh.cli.embed_verify import LEAST_RECALL, verify
from recmesh.cli.retraining_shadow import shadow
from recmesh.cli.retraining_switch import go_back, make_live, take_over
from recmesh.cli.served_policy import served_policy
from recmesh.cli.stage_progress import StageProgress
from recmesh.cli.written_data import learning_dataset, mesh_config
from recmesh.models.registry import known_models, loader
from recmesh.offline.evaluation.fitting import newest_moment
from recmesh.offline.retraining.gate import (
    Check,
    quality_checks,
    sanity_checks,
    shadow_checks,
)
from recmesh.offline.retraining.plan import Order, Plan
from recmesh.offline.retraining.report import ModelReport, Outcome, Report
from recmesh.offline.retraining.run_record import Trained, only_retraining
from recmesh.offline.retraining.sanity import Sample, checked
from recmesh.storage.artifacts import Artifact, ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EMBEDDER, EmbeddingRegistry, EmbeddingVersion
from recmesh.storage.errors import (
    DataError,
    NotFoundError,
    RecMeshError,
)
from recmesh.storage.frozen_dataset import FrozenDataset
from recmesh.storage.home import Home
from recmesh.storage.interchange import TABLES


def retrain(home: Home, order: Order, shown: StageProgress) -> Report:
    """Retrains, and makes live what is not worse than what serves.

    Killed at any moment, the same call goes on where it was, on the same data; on other data it
    begins anew. What serves is not touched before every check has passed.

    Raises:
        NotFoundError: nothing was ingested.
        ConfigurationError: another retraining, or another build of embedding versions, runs.
        UnavailableError: a user was erased meanwhile, or a dependency does not answer.
    """
    with ExitStack() as stack:
        stack.enter_context(only_retraining(home.retraining))
        if EMBEDDER in order.models:
            # Versions of the language model that no collection names yet must not be dropped.
            stack.enter_context(only_build(home))
        frozen = FrozenDataset(home.retraining_data)
        stack.callback(frozen.release)
        return _Run(home, order, shown, frozen).go()


@dataclass
class _Run:
    """One run. Its methods are called once each, in the order of the stages."""

    home: Home
    order: Order
    shown: StageProgress
    frozen: FrozenDataset
    models: dict[str, ModelReport] = field(default_factory=dict)
    candidates: dict[str, Artifact] = field(default_factory=dict)
    embedding: EmbeddingVersion | None = None
    training_by: Trainer = field(init=False)

    def go(self) -> Report:
        self.store = ArtifactStore(self.home.artifacts)
        self.registry = EmbeddingRegistry(self.home.vectors)
        self.snapshot()
        if self.passing():
            self.train()
            if self.record.accepted is None:
                self.gate()
                self.build()
                self.shadow()
            else:
                self.take_up_again()
            self.switch()
        self.report.models = [self.models[name] for name in self.order.models]
        return self.report

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started_s = time.monotonic()
        yield
        self.report.seconds[stage] = round(time.monotonic() - started_s, 1)

    def passing(self) -> list[ModelReport]:
        return [m for m in self.models.values() if m.outcome is Outcome.PASSED]

    def snapshot(self) -> None:
        """Holds the data still, and finds what there is to do."""
        progress = self.shown.stage("snapshot")
        progress(0, 1, "data held still")
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.dataset: Dataset = self.frozen.hold(learning_dataset(self.home))
        newest = newest_moment(self.dataset, self.order.until)
        self.report = Report(
            started=started,
            dataset_version=self.dataset.version,
            rows={name: len(getattr(self.dataset, name)) for name in TABLES},
            newest_data=newest.isoformat() if newest else "",
            until=self.order.until_iso,
            seed=self.order.seed,
            dry_run=self.order.dry_run,
        )
        self.plan = Plan(self.home, self.order, self.dataset)
        self.record, self.report.resumed = self.plan.record()
        for name, live in self.record.key.live.items():
            model = self.models[name] = ModelReport(name, Outcome.PASSED, live_before=live)
            if name not in self.record.trained and self.plan.is_current(name, live):
                model.outcome = Outcome.UNCHANGED
                model.message = "the data, the code and the settings are the same"
        counts = ", ".join(f"{count:,} {name}" for name, count in self.report.rows.items() if count)
        goes_on = "; goes on where it was stopped" if self.report.resumed else ""
        self.shown.done("snapshot", f"{self.dataset.version}: {counts}{goes_on}")

    def train(self) -> None:
        """Trains every candidate, beside what serves."""
        with self.timed("train"), self.trainer() as self.training_by:
            for model in self.passing():
                self.train_one(model)
        said = ", ".join(
            f"{m.name} {m.comparison.candidate.value:.3f}"
            + (f" against {m.comparison.live.value:.3f}" if m.comparison.live else "")
            for m in self.models.values()
            if m.comparison is not None
        )
        self.shown.done("train", f"nDCG@10 on later events: {said}" if said else "nothing")

    def is_trained(self, model: ModelReport) -> bool:
        """Whether an earlier part of this run has trained it."""
        known = self.record.trained.get(model.name)
        return known is not None and known.version in self.store.versions(model.name)

    def trainer(self) -> AbstractContextManager[Trainer]:
        """Who trains the candidates that this run lacks."""
        training = Training(
            self.dataset,
            self.order.until,
            self.order.seed,
            (self.home.retraining / "searches").resolve(),
            self.home.text_vectors.resolve(),
        )
        wanted = {
            model.name: self.plan.loaded(model.name, model.live_before)
            for model in self.passing()
            if not self.is_trained(model)
        }
        if not self.order.on_ray or not wanted:
            return nullcontext(InThisProcess(training))
        return trainer_on_ray(self.home, mesh_config(self.home).ray.address, training, wanted)

    def train_one(self, model: ModelReport) -> None:
        known = self.record.trained.get(model.name)
        if known is None or not self.is_trained(model):
            try:
                known = self.trained(model)
            except DataError as error:
                self.not_measured(model, str(error))
                return
            except RecMeshError as error:
                model.outcome, model.message = Outcome.FAILED, str(error)
                return
            self.record.trained[model.name] = known
            self.record.save()
        model.candidate, model.comparison = known.version, known.comparison
        self.candidates[model.name] = self.store.load(model.name, known.version)
        if known.version == self.store.left_version(model.name):
            rule = "it is not what a rollback has left"
            self.judge(model, [Check(rule, f"{known.version} is", passed=False)])
        elif known.version == model.live_before:
            model.outcome = Outcome.UNCHANGED
            model.message = "training gave the version that is live"

    def trained(self, model: ModelReport) -> Trained:
        progress = self.shown.stage(f"train {model.name}")
        live = self.plan.loaded(model.name, model.live_before)
        candidate = self.training_by.candidate(model.name, live, progress)
        there = set(self.store.versions(model.name))
        made = candidate.trained
        version = self.store.publish(made.card, made.tensors, made.strings, live=False)
        try:
            self.frozen.check()
        except RecMeshError:
            if version not in there:
                self.store.remove(model.name, version)
            raise
        return Trained(version, candidate.comparison)

    def not_measured(self, model: ModelReport, why: str) -> None:
        if model.live_before:
            model.outcome = Outcome.REFUSED
            model.checks.append(Check("measured on later events", f"not possible: {why}", False))
        else:
            model.outcome, model.message = Outcome.SKIPPED, why

    def gate(self) -> None:
        """Refuses what is worse than the live version, or not sane."""
        with self.timed("gate"):
            sample = Sample.of(self.dataset, self.order.seed) if self.passing() else None
            for model in self.passing():
                assert sample is not None
                assert model.comparison is not None
                progress = self.shown.stage(f"gate {model.name}")
                artifact = self.candidates[model.name]
                live = self.plan.loaded(model.name, model.live_before)
                load = loader(model.name)
                sanity = checked(
                    artifact, load(artifact), load(live) if live else None, sample, progress
                )
                self.judge(model, [*quality_checks(model.comparison), *sanity_checks(sanity)])
        passed = ", ".join(model.name for model in self.passing()) or "none"
        refused = [m.name for m in self.models.values() if m.outcome is Outcome.REFUSED]
        said = f"; refused: {', '.join(refused)}" if refused else ""
        self.shown.done("gate", f"passed: {passed}{said}")

    def judge(self, model: ModelReport, checks: list[Check]) -> None:
        model.checks += checks
        if not all(check.passed for check in checks):
            model.outcome = Outcome.REFUSED

    def build(self) -> None:
        """Builds and verifies the embedding version beside the live one."""
        model = self.models.get(EMBEDDER)
        if model is None or model.outcome is not Outcome.PASSED:
            return
        self.shown.stage(f"build {EMBEDDER}")
        artifact = self.candidates[EMBEDDER]
        with self.timed("build"):
            try:
                record, _ = build(
                    self.home, self.dataset, artifact, self.order.uri, self.shown.bars
                )
            except RecMeshError as error:
                model.outcome, model.message = Outcome.FAILED, str(error)
                return
            rule = f"the index finds {LEAST_RECALL:.0%} of what exact search finds, of 100"
            try:
                record = verify(self.home, record, self.order.uri)
            except DataError as error:
                self.judge(model, [Check(rule, str(error), passed=False)])
                return
            except RecMeshError as error:
                model.outcome, model.message = Outcome.FAILED, str(error)
                return
        recall = {k: v for k, v in record.metrics.items() if k.startswith("recall")}
        found = ", ".join(
            f"{kind.rpartition('_')[2]} {value:.4f}" for kind, value in recall.items()
        )
        self.judge(model, [Check(rule, found, passed=True)])
        self.embedding, self.record.collection = record, record.collection
        self.said_of(record)
        self.shown.done("build", f"{record.count} items in {record.collection}; recall@100 {found}")

    def said_of(self, record: EmbeddingVersion) -> None:
        self.report.embedding = {
            "version": record.version,
            "collection": record.collection,
            "items": record.count,
            **{k: v for k, v in record.metrics.items() if k.startswith("recall")},
        }

    def shadow(self) -> None:
        """Answers recent requests with all that passed, beside what serves."""
        passing = self.passing()
        if not passing:
            return
        progress = self.shown.stage("shadow")
        before = {
            name: self.store.live_version(name)
            for name in known_models()
            if self.store.has_live(name)
        }
        live = self.live_embedding()
        with self.timed("shadow"):
            found = shadow(
                self.home,
                self.dataset,
                served_policy(self.home),
                before,
                {model.name: model.candidate for model in passing},
                (live, self.embedding or live),
                uri=self.order.uri,
                seed=self.order.seed,
                progress=progress,
            )
        self.report.shadow, self.report.shadow_checks = found, shadow_checks(found)
        for model in passing:
            # Who of them is to blame does not show: nothing goes live.
            self.judge(model, [check for check in self.report.shadow_checks if not check.passed])
        self.shown.done(
            "shadow",
            f"{found.requests} requests: overlap@10 {found.overlap_at_10:.2f}, latency ratio "
            f"{found.latency_ratio:.2f}, {found.errors} errors, {found.emptied} empty pages",
        )

    def live_embedding(self) -> EmbeddingVersion | None:
        with suppress(NotFoundError):
            return self.registry.live()
        return None

    def take_up_again(self) -> None:
        """Goes on at the switch with what an interrupted run has accepted."""
        accepted = self.record.accepted or {}
        for model in self.passing():
            checks = accepted.get(model.name)
            if checks is None:
                model.outcome = Outcome.REFUSED
                model.message = "the run that was interrupted refused it"
            else:
                model.checks = checks
        if self.record.collection:
            self.embedding = self.registry.get(self.record.collection)
            self.said_of(self.embedding)

    def switch(self) -> None:
        """Makes live what passed, and lets a running mesh take it over."""
        passing = self.passing()
        if self.order.dry_run:
            # Kept, so that the same without --dry-run promotes just this.
            self.shown.done("switch", "not done: this is a dry run")
            return
        if passing:
            progress = self.shown.stage("switch")
            with self.timed("switch"):
                self.frozen.check()
                self.record.accepted = {model.name: model.checks for model in passing}
                self.record.save()
                for number, model in enumerate(passing):
                    progress(number, len(passing), f"{model.name} goes live")
                    self.make_live(model)
                self.take_over()
        self.record.finish()

    def make_live(self, model: ModelReport) -> None:
        collection = self.embedding.collection if self.embedding else ""
        if model.name != EMBEDDER:
            collection = ""
        try:
            make_live(self.home, model.name, model.candidate, model.live_before, collection)
        except RecMeshError as error:
            model.outcome, model.message = Outcome.FAILED, str(error)
            return
        model.outcome = Outcome.PROMOTED
        if model.live_before:
            model.back = f"recmesh retrain {model.name} --rollback"

    def take_over(self) -> None:
        promoted = [m for m in self.models.values() if m.outcome is Outcome.PROMOTED]
        if not promoted:
            return
        taken = take_over(self.home, [model.name for model in promoted])
        self.report.mesh = taken.message
        for model in promoted:
            if not taken.reached:
                model.outcome, model.message = Outcome.FAILED, taken.message
            elif model.name in taken.failed:
                self.put_back(model)
        self.shown.done("switch", taken.message)

    def put_back(self, model: ModelReport) -> None:
        model.outcome, model.back = Outcome.FAILED, ""
        try:
            back = go_back(self.home, model.name)
        except RecMeshError as error:
            model.message = f"its new replicas do not run; recmesh status says why; {error}"
            return
        take_over(self.home, [model.name])
        model.message = f"its new replicas do not run; {back} is live again"
