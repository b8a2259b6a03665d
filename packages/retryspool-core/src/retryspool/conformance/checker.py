"""Whether operations that overlapped could have been done one after the other: linearizability.

The search of Wing and Gong, with Lowe's memory of what was tried already: it looks for an order of the operations in
which each takes effect between its beginning and its end, and returns what a sequential model says. One message is
checked at a time, since a history is linearizable if it is so for each object alone.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from retryspool.conformance.histories import Operation, by_message, table

__all__ = ["Answer", "Step", "Verdict", "check", "explain"]

MOST_TRIED = 200_000
"""How many situations are looked at before the search gives up."""

Model = TypeVar("Model", bound=Hashable)

Step = Callable[[Model, Operation], Iterable[Model]]
"""From a state of the model and an operation: the states in which it may leave the model, given what it returned; none
if it can't have returned that. For an open operation, those in which it leaves the model if it takes effect."""


class Answer(enum.Enum):
    """What the search found."""

    LINEARIZABLE = "there is an order that explains what each returned"
    NOT_LINEARIZABLE = "no order of these operations explains what they returned"
    UNDECIDED = f"undecided after {MOST_TRIED} situations, which counts as a failure: use fewer operations"


@dataclass(frozen=True, slots=True)
class Verdict(Generic[Model]):
    """An answer, and how far the best order got."""

    answer: Answer
    ordered: frozenset[Operation]
    """The operations that the longest order found contains."""
    model: Model
    """What that order leaves."""

    @property
    def is_good(self) -> bool:
        """Whether there's an order."""
        return self.answer is Answer.LINEARIZABLE


@dataclass(frozen=True, slots=True)
class _Situation(Generic[Model]):
    """Some operations are done, in some order; what they leave is all that matters of it."""

    done: int
    """A bit for each operation that has ended, in the order of their beginnings."""
    opened: int
    """A bit for each open one that has taken effect."""
    model: Model


def check(
    operations: Iterable[Operation], initial: Model, step: Step[Model], *, most_tried: int = MOST_TRIED
) -> Verdict[Model]:
    """Look for an order of the operations on one message."""
    in_order = sorted(operations, key=lambda operation: operation.began)
    search = _Search([o for o in in_order if o.ended is not None], [o for o in in_order if o.ended is None], step)
    first = _Situation(0, 0, initial)
    best = first
    waiting, known = [first], {first}
    while waiting:
        at = waiting.pop()
        if at.done.bit_count() > best.done.bit_count():
            best = at
        if search.is_over(at):
            return Verdict(Answer.LINEARIZABLE, search.operations(at), at.model)
        if len(known) > most_tried:
            return Verdict(Answer.UNDECIDED, search.operations(best), best.model)
        for following in search.following(at):
            if following not in known:
                known.add(following)
                waiting.append(following)
    return Verdict(Answer.NOT_LINEARIZABLE, search.operations(best), best.model)


class _Search(Generic[Model]):
    def __init__(self, ended: Sequence[Operation], unended: Sequence[Operation], step: Step[Model]) -> None:
        self._ended = ended
        self._open = unended
        self._step: Step[Model] = step

    def is_over(self, at: _Situation[Model]) -> bool:
        """Tell whether all is explained. An open operation needn't be: it may never take effect."""
        return at.done == (1 << len(self._ended)) - 1

    def operations(self, at: _Situation[Model]) -> frozenset[Operation]:
        done = [operation for number, operation in enumerate(self._ended) if at.done >> number & 1]
        opened = [operation for number, operation in enumerate(self._open) if at.opened >> number & 1]
        return frozenset(done + opened)

    def following(self, at: _Situation[Model]) -> Iterator[_Situation[Model]]:
        """Yield what may come next; what is likeliest comes last, for the search takes that first."""
        candidates, until = self._candidates(at.done)
        for number, operation in enumerate(self._open):
            if operation.began <= until and not at.opened >> number & 1:
                for model in self._step(at.model, operation):
                    if model != at.model:
                        yield _Situation(at.done, at.opened | 1 << number, model)
        for number in sorted(candidates, key=lambda each: self._ended[each].ended or 0, reverse=True):
            for model in self._step(at.model, self._ended[number]):
                yield _Situation(at.done | 1 << number, at.opened, model)

    def _candidates(self, done: int) -> tuple[list[int], float]:
        """Return those that may be next, none of the others having ended before they began; and until when that is."""
        candidates: list[int] = []
        until = float("inf")
        for number in range((~done & done + 1).bit_length() - 1, len(self._ended)):
            if done >> number & 1:
                continue
            operation = self._ended[number]
            if operation.began > until:
                break
            candidates.append(number)
            until = min(until, operation.ended or 0)
        return candidates, until


def explain(operations: Iterable[Operation], initial: Model, step: Step[Model]) -> str:
    """Return what is wrong with a history, for people to read; nothing if each message's operations have an order."""
    troubles: list[str] = []
    for message_id, those in by_message(operations).items():
        verdict = check(those, initial, step)
        if not verdict.is_good:
            troubles += [
                f"message {message_id!r}: {verdict.answer.value}",
                table(those, verdict.ordered),
                f"an order of all but those marked > leaves: {verdict.model or 'nothing'}",
            ]
    return "\n".join(troubles)
