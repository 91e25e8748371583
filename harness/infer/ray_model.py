"""One model in many workers of a Ray cluster: hiring, handing out shards, taking outcomes, replacing what is lost."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.infer.local import Asked, ModelInfo, batches
from harness.infer.ray_worker import Recipe, Worker
from harness.types import Example, Failed, Item, Outcome, UserError

SHARD_BATCHES = 4
"""Batches per shard: what a lost worker takes with it, and how often outcomes come back."""
SHARDS_AHEAD = 2
"""Shards that a worker has at once, so that it need not wait for the next one."""
MOST_LOSSES = 3
"""Workers that may be lost over one shard, or while loading, before it is held to be their cause."""
LOOK_EVERY_S = 2.0
"""How often the cluster is asked how many workers it can take."""


@dataclass(eq=False)
class _Shard:
    """Some questions, and how many workers were lost while they answered them."""

    asked: Sequence[Asked]
    losses: int = 0


class _Shards:
    """The shards that no worker has: those of lost workers first. Questions are read as shards are taken."""

    def __init__(self, asked: Iterable[Asked], size: int) -> None:
        self._fresh = batches(asked, size)
        self._known: deque[_Shard] = deque()

    def __bool__(self) -> bool:
        if not self._known:
            self._known.extend(_Shard(piece) for piece in [next(self._fresh, None)] if piece is not None)
        return bool(self._known)

    def take(self) -> _Shard:
        """The next one; there must be one."""
        return self._known.popleft()

    def give_back(self, shards: Sequence[_Shard]) -> None:
        """Shards that a lost worker had."""
        self._known.extendleft(reversed(shards))


@dataclass(eq=False)
class _Hand:
    """A worker as seen from here: its actor, and the calls that it has not answered yet, oldest first.

    The first call is `load`, which has no shard; `ready` when it was answered.
    """

    actor: Any
    calls: deque[tuple[Any, _Shard | None]] = field(default_factory=deque)
    ready: bool = False

    @property
    def free(self) -> bool:
        """Whether it may be given another shard."""
        at_a_lost_one = any(shard is not None and shard.losses for _, shard in self.calls)
        return self.ready and len(self.calls) < SHARDS_AHEAD and not at_a_lost_one


class RayModel:
    """One model, loaded in as many workers as the cluster can take; see `harness.infer.local.Model`.

    Args:
        recipe: how workers build it.
        training: examples for `fit`, sent to each node once.

    Raises:
        UserError: a numbered device, which a worker that sees one GPU cannot use.
    """

    def __init__(self, recipe: Recipe, training: Sequence[Example] | None) -> None:
        import ray

        self.recipe = recipe
        self._resource = _resource(recipe.arguments.get("device"))
        takes = {"num_gpus": 1, "num_cpus": 1} if self._resource == "GPU" else {"num_cpus": 1}
        remote: Any = ray.remote
        self._actors = remote(**takes, max_restarts=0, scheduling_strategy="SPREAD")(Worker)
        self._training = ray.put(training)
        self._hands: list[_Hand] = []
        self._loaded = self._lost = self._lost_loading = 0
        self._look_at = 0.0
        self._facts: ModelInfo | None = None

    def answers(self, asked: Iterable[Asked], batch_size: int) -> Iterator[tuple[Item, Outcome]]:
        """One outcome per item, as shards come back; `Failed("WorkerLost")` for a shard that ends its workers."""
        shards = _Shards(asked, SHARD_BATCHES * batch_size)
        while shards or any(shard for hand in self._hands for _, shard in hand.calls):
            self._hire()
            self._hand_out(shards, batch_size)
            yield from self._next_outcomes(shards)

    def facts(self) -> ModelInfo:
        """Of the workers that have loaded the model, waiting for the first one; memory is the highest of all.

        Raises:
            UserError: the model cannot be loaded, or no node can take a worker.
        """
        while self._facts is None:
            self._hire()
            list(self._next_outcomes(_Shards((), 1)))
        idle = [hand for hand in self._hands if not hand.calls]  # after an interruption the others are busy
        found = [told for told in map(self._told, idle) if told is not None]
        first = found[0] if found else self._facts
        memory = [f.peak_memory_gb for f in [*found, self._facts] if f.peak_memory_gb is not None]
        placement = {"workers": self._loaded, "lost": self._lost, "each": f"1 {self._resource}"}
        return dataclasses.replace(first, peak_memory_gb=max(memory, default=None), placement=placement)

    def close(self) -> None:
        """Nothing: the workers wait for the next row of this model, until they are dismissed."""

    def dismiss(self) -> None:
        """End the workers."""
        import ray

        for hand in self._hands:
            ray.kill(hand.actor)
        self._hands.clear()

    def _told(self, hand: _Hand) -> ModelInfo | None:
        import ray

        try:
            told: ModelInfo = ray.get(hand.actor.facts.remote())
        except ray.exceptions.RayActorError:  # found lost when it is next asked
            return None
        return told

    def _hire(self) -> None:
        """Start workers until there are as many as the cluster can take.

        Raises:
            UserError: it can take none.
        """
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_EVERY_S
        room = _in_cluster(self._resource)
        if room == 0:
            raise UserError(f"--executor ray: no node of the cluster has a {self._resource} for a worker")
        for _ in range(len(self._hands), room):
            hand = _Hand(self._actors.remote(self.recipe))
            hand.calls.append((hand.actor.load.remote(self._training), None))
            self._hands.append(hand)

    def _hand_out(self, shards: _Shards, batch_size: int) -> None:
        """Give shards to the workers that have fewest; one that was lost before has a worker for itself.

        So a shard that ends its workers is told from those that were lost with it.
        """
        while shards and (free := [hand for hand in self._hands if hand.free]):
            hand, shard = min(free, key=lambda hand: len(hand.calls)), shards.take()
            if shard.losses and hand.calls:
                shards.give_back([shard])
                return
            hand.calls.append((hand.actor.answer.remote(shard.asked, batch_size), shard))

    def _next_outcomes(self, shards: _Shards) -> list[tuple[Item, Outcome]]:
        """Wait for a worker to answer its oldest call, or for some seconds; the outcomes, if the call was about any.

        Raises:
            UserError: an adapter cannot be loaded or broke its contract.
        """
        import ray

        waiting = {hand.calls[0][0]: hand for hand in self._hands if hand.calls}
        done, _ = ray.wait(list(waiting), timeout=LOOK_EVERY_S) if waiting else ([], [])
        if not done:
            return []
        hand = waiting[done[0]]
        try:
            result = ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        except ray.exceptions.RayError as error:
            return self._lose(hand, shards, error)
        hand.calls.popleft()
        if isinstance(result, ModelInfo):
            hand.ready, self._loaded = True, self._loaded + 1
            self._facts = self._facts or result
            return []
        return result  # type: ignore[no-any-return]

    def _lose(self, hand: _Hand, shards: _Shards, error: Exception) -> list[tuple[Item, Outcome]]:
        """Give a lost worker's shards back; what was lost too often ends in failures.

        Raises:
            UserError: workers were lost while loading the model, again and again.
        """
        import ray

        self._hands.remove(hand)
        ray.kill(hand.actor)
        self._lost += 1
        self._look_at = 0.0
        reason = str(error).split("\n", 1)[0]
        lost = [shard for _, shard in hand.calls if shard is not None]
        if not lost:
            self._lost_loading += 1
            if self._lost_loading >= MOST_LOSSES:
                raise UserError(f"{self.recipe.adapter}: {MOST_LOSSES} workers ended while loading the model: {reason}")
        for shard in lost:
            shard.losses += 1
        shards.give_back([shard for shard in lost if shard.losses < MOST_LOSSES])
        failed = Failed("WorkerLost", f"{MOST_LOSSES} workers were lost over these pictures: {reason}")
        return [(one.item, failed) for shard in lost if shard.losses >= MOST_LOSSES for one in shard.asked]


def _resource(device: str | None) -> str:
    """What a worker takes one of: a GPU where the cluster has some and the device is not the processor."""
    if device is not None and ":" in device:
        raise UserError(f"--device {device}: with --executor ray each worker has one GPU of its own; use --device cuda")
    return "GPU" if device != "cpu" and _in_cluster("GPU") else "CPU"


def _in_cluster(resource: str) -> int:
    """How many GPUs or cores the living nodes have."""
    import ray

    resources: Any = ray.cluster_resources
    return int(resources().get(resource, 0))
