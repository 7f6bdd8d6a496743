from __future__ import annotations

from recmesh.orchestrator.last_answers import LastAnswers, Question
from recmesh.v1 import common_pb2, model_pb2


def question(user: str = "d1", *history: str) -> Question:
    features = common_pb2.UserFeatures(user_id=user, history_item_ids=history)
    return Question.of("cf", model_pb2.RetrieveRequest(surface="feed", user=features))


def answer(version: str) -> model_pb2.RetrieveResponse:
    return model_pb2.RetrieveResponse(item_ids=["i1"], scores=[1.0], version=version)


def test_the_newest_answer_is_given_with_its_age() -> None:
    clock = [100.0]
    answers = LastAnswers(now_s=lambda: clock[0])
    answers.keep(question(), answer("old"))
    clock[0] = 110.0
    answers.keep(question(), answer("new"))
    clock[0] = 125.0
    assert answers.last(question()) == (answer("new"), 15.0)
    assert answers.last(question("d2")) is None


def test_an_answer_too_old_is_not_given() -> None:
    clock = [0.0]
    answers = LastAnswers(keep_s=60.0, now_s=lambda: clock[0])
    answers.keep(question(), answer("1"))
    clock[0] = 60.0
    assert answers.last(question()) is not None
    clock[0] = 60.1
    assert answers.last(question()) is None


def test_what_is_too_old_does_not_stay_in_memory() -> None:
    clock = [0.0]
    answers = LastAnswers(keep_s=60.0, now_s=lambda: clock[0])
    for user in ("d1", "d2", "d3"):
        answers.keep(question(user), answer("1"))
    clock[0] = 61.0
    answers.keep(question("d4"), answer("1"))
    assert len(answers) == 1


def test_what_was_not_asked_for_longest_goes_first() -> None:
    answers = LastAnswers(most=2)
    for user in ("d1", "d2", "d1", "d3"):
        answers.keep(question(user), answer("1"))
    assert [answers.last(question(user)) is None for user in ("d1", "d2", "d3")] == [
        False,
        True,
        False,
    ]


def test_what_was_proposed_from_a_history_is_not_given_without_it() -> None:
    answers = LastAnswers()
    answers.keep(question("d1", "i7"), answer("1"))
    assert answers.last(question("d1", "i7", "i8")) is not None, "the history grew"
    assert answers.last(question("d1")) is None, "consent was withdrawn, or the doctor erased"
