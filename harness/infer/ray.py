"""`--executor ray`: a local model in every worker of a Ray cluster, its outcomes streamed back to one writer.

A worker is a Ray actor with one GPU and a core, or with a core alone if no GPU is wanted. It builds the adapter from
its name and settings, loads it once and answers shards of a few batches, for every row of that model. Ray's `ActorPool`
hands the shards out. A worker that is lost (killed, node gone) is replaced by a new one; its shard is asked again once
the others are answered, each with a worker to itself, so that a shard that kills its workers is found out.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util import ActorPool

from harness.errors import UserError, first_line
from harness.infer.local import Asked, InProcessModel, ModelInfo, batches
from harness.plan.registry import adapter_registry
from harness.types import Example, Failed, Item, Outcome

SHARD_BATCHES = 4
"""Batches per shard (of 8, if their size is found while answering): what a lost worker takes with it, and how often
outcomes come back."""
MAX_LOSSES = 3
"""Workers that may be lost over one shard, or while loading, before it is held to be the cause."""
LOOK_EVERY_S = 2.0
"""How often the cluster is asked how many workers it can take."""


@dataclass(frozen=True)
class Recipe:
    """How a worker builds its adapter.

    Attributes:
        adapter: registry name.
        arguments: keyword arguments of its class.
        definitions: `--adapter` values, with absolute paths.
        folder: the command's working folder, which relative paths in the arguments mean; every node must see it.
        trained_on: the task whose training split the adapter gets, or None.
        longest_prompt: of the run, for the adapter's checks.
    """

    adapter: str
    arguments: Mapping[str, Any]
    definitions: tuple[str, ...]
    folder: str
    trained_on: str | None
    longest_prompt: str = ""


class Worker:
    """A loaded model on some node; an instance lives in a Ray actor."""

    def load(self, recipe: Recipe, training: Sequence[Example] | None) -> tuple[str, ModelInfo]:
        """Build the adapter and load its model; the actor's id, and what the model says of itself.

        Raises:
            UserError: it could not be loaded on this node.
        """
        os.chdir(recipe.folder)
        cls = adapter_registry(recipe.definitions).load(recipe.adapter)
        self._model = InProcessModel(cls(**recipe.arguments), training, recipe.longest_prompt)
        return str(ray.get_runtime_context().get_actor_id()), self._model.info()

    def answer(self, shard: int, asked: Sequence[Asked], batch_size: int) -> Answered:
        """The outcomes of a shard, in order."""
        return Answered(shard, list(self._model.answers(asked, batch_size)), self._model.info())


@dataclass(frozen=True)
class Answered:
    """What a worker sends back: the shard's number, its outcomes, and what the model says of itself by now."""

    shard: int
    outcomes: list[tuple[Item, Outcome]]
    info: ModelInfo


class RayModel:
    """One model, loaded in as many workers as the cluster can take; see `harness.infer.local.Model`.

    Args:
        recipe: how workers build it.
        training: examples for `fit`, sent to each node once.

    Raises:
        UserError: a numbered device, which a worker that sees one GPU cannot use.
    """

    def __init__(self, recipe: Recipe, training: Sequence[Example] | None) -> None:
        device = recipe.arguments.get("device")
        if device is not None and ":" in device:
            raise UserError(
                f"--device {device}: with --executor ray each worker has one GPU of its own; use --device cuda"
            )
        self.recipe = recipe
        self._resource = "GPU" if device != "cpu" and _in_cluster("GPU") else "CPU"
        takes = {"num_gpus": 1, "num_cpus": 1} if self._resource == "GPU" else {"num_cpus": 1}
        self._actor: Any = ray.remote(**takes, max_restarts=0, scheduling_strategy="SPREAD")(Worker)  # type: ignore[call-overload]
        self._training = ray.put(training)
        self._pool: Any = ActorPool([])
        self._actors: list[Any] = []
        self._loading: dict[Any, Any] = {}  # the call of `load` -> its actor
        self._numbers = itertools.count()  # of shards; none is used twice, so that an answer to another row is known
        self._ids: dict[Any, str] = {}  # of the actors that have loaded the model
        self._lost: set[str | None] = set()  # ids of actors
        self._lost_loading = 0
        self._look_at = 0.0
        self._reason = ""
        self._info: ModelInfo | None = None

    def answers(self, asked: Iterable[Asked], batch_size: int) -> Iterator[tuple[Item, Outcome]]:
        """One outcome per item, as shards come back; `Failed("WorkerLost")` for a shard that ends its workers."""
        lost = yield from self._round(batches(asked, SHARD_BATCHES * (batch_size or 8)), batch_size)
        for _ in range(MAX_LOSSES - 1):
            lost = yield from self._round(lost, batch_size)
        failed = Failed("WorkerLost", f"{MAX_LOSSES} workers were lost over these images: {self._reason}")
        yield from ((one.item, failed) for shard in lost for one in shard)

    def info(self) -> ModelInfo:
        """Of the workers that have loaded the model, waiting for the first one; memory is the highest of all.

        Raises:
            UserError: the model could not be loaded, or no node can take a worker.
        """
        while self._info is None:
            self._hire(wait=True)
        placement = {"workers": len(self._ids), "lost": len(self._lost), "each": f"1 {self._resource}"}
        return dataclasses.replace(self._info, placement=placement)

    def close(self) -> None:
        """Nothing: the workers wait for the next row of this model, until `shutdown`."""

    def shutdown(self) -> None:
        """End the workers."""
        for actor in self._actors:
            ray.kill(actor)

    def _round(
        self, shards: Iterable[list[Asked]], batch_size: int
    ) -> Generator[tuple[Item, Outcome], None, list[list[Asked]]]:
        """Hand every shard to a worker, one at a time each; the shards whose workers were lost."""
        remaining = iter(shards)
        shard = next(remaining, None)
        away: dict[int, list[Asked]] = {}
        while shard is not None or self._pool.has_next():
            self._hire(wait=not self._pool.has_free() and not self._pool.has_next())
            while shard is not None and self._pool.has_free():
                number = next(self._numbers)
                away[number] = shard
                self._pool.submit(lambda actor, given: actor.answer.remote(*given), (number, shard, batch_size))
                shard = next(remaining, None)
            answered = self._next_answer()
            if answered is not None and away.pop(answered.shard, None) is not None:
                yield from answered.outcomes
        return list(away.values())

    def _next_answer(self) -> Answered | None:
        """What the next worker sends back; None if none does within some seconds, or one was lost.

        Raises:
            UserError: the adapter broke its contract, or cannot work at all.
        """
        if not self._pool.has_next():
            return None
        try:
            answered: Answered = self._pool.get_next_unordered(timeout=LOOK_EVERY_S)
        except TimeoutError:
            return None
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        except RayActorError as error:
            self._note_lost(error)
            return None
        self._note_info(answered.info)
        return answered

    def _hire(self, *, wait: bool) -> None:
        """Start as many workers as the cluster can take, and put to work those that have loaded the model.

        Args:
            wait: for one of them, some seconds at most.

        Raises:
            UserError: the cluster can take none, or the model could not be loaded.
        """
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            room = _in_cluster(self._resource)
            if room == 0:
                raise UserError(f"--executor ray: no node of the cluster has a {self._resource} for a worker")
            for _ in range(len(self._actors) - len(self._lost), room):
                actor = self._actor.remote()
                self._actors.append(actor)
                self._loading[actor.load.remote(self.recipe, self._training)] = actor
        calls = list(self._loading)
        for call in ray.wait(calls, timeout=LOOK_EVERY_S if wait else 0)[0] if calls else ():
            actor = self._loading.pop(call)
            try:
                self._ids[actor], info = ray.get(call)
            except RayTaskError as error:
                raise (error.cause if isinstance(error.cause, UserError) else error) from None
            except RayActorError as error:
                self._note_lost(error)
                self._lost_loading += 1
                if self._lost_loading >= MAX_LOSSES:
                    name = self.recipe.adapter
                    raise UserError(
                        f"{name}: {MAX_LOSSES} workers ended while loading the model: {self._reason}"
                    ) from None
            else:
                self._note_info(info)
                self._pool.push(actor)

    def _note_lost(self, error: RayActorError) -> None:
        """Count a lost worker, whose place is free for another; one that is out of reach is given up."""
        self._lost.add(error.actor_id)
        self._reason, self._look_at = first_line(error), 0.0
        for actor in list(iter(self._pool.pop_idle, None)):
            if self._ids[actor] in self._lost:
                ray.kill(actor)
            else:
                self._pool.push(actor)

    def _note_info(self, info: ModelInfo) -> None:
        known = (self._info.peak_memory_gb if self._info else None, info.peak_memory_gb)
        peak = max((memory for memory in known if memory is not None), default=None)
        self._info = dataclasses.replace(info, peak_memory_gb=peak)


def _in_cluster(resource: str) -> int:
    """How many GPUs or cores the living nodes have."""
    resources: Any = ray.cluster_resources
    return int(resources().get(resource, 0))


class RayWorkers:
    """The workers of one command; they serve one model at a time.

    Args:
        definitions: `--adapter` values.
    """

    def __init__(self, definitions: Sequence[str]) -> None:
        pairs = [definition.partition("=") for definition in definitions]
        self._definitions = tuple(f"{name}={os.path.abspath(target)}" for name, _, target in pairs)
        self._model: RayModel | None = None

    def model(
        self,
        adapter: str,
        arguments: Mapping[str, Any],
        trained_on: str | None,
        training: Callable[[], Sequence[Example] | None],
        longest_prompt: str = "",
    ) -> RayModel:
        """The model of a row: that of the row before, if it is the same, or a new one.

        Args:
            adapter, arguments, trained_on, longest_prompt: see `Recipe`.
            training: reads the training examples.
        """
        recipe = Recipe(adapter, dict(arguments), self._definitions, os.getcwd(), trained_on, longest_prompt)
        if self._model is None or self._model.recipe != recipe:
            self.shutdown()
            self._model = RayModel(recipe, training())
        return self._model

    def shutdown(self) -> None:
        """End the workers and free what they took."""
        if self._model is not None:
            self._model.shutdown()
            self._model = None


@contextmanager
def connected(definitions: Sequence[str]) -> Iterator[RayWorkers]:
    """Join the cluster that RAY_ADDRESS names or that runs on this machine, else start one here; leave it afterwards.

    Args:
        definitions: `--adapter` values, for the workers.

    Raises:
        UserError: there is no cluster at that address.
    """
    joined_before = ray.is_initialized()
    if not joined_before:
        _check_address(os.environ.get("RAY_ADDRESS", ""))
        sigterm = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"--executor ray: no cluster could be joined or started ({error})") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, sigterm)  # ray replaces it in every program that joins a cluster
    workers = RayWorkers(definitions)
    try:
        yield workers
    finally:
        workers.shutdown()
        if not joined_before:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Fail early if nobody listens at HOST:PORT; ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # none, `auto` or `local`
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"--executor ray: nothing answers at RAY_ADDRESS={address} ({error.strerror or error})"
        ) from None
