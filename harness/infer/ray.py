"""`--executor ray`: a local model in every worker of a Ray cluster, its outcomes streamed back to one writer.

A worker is a Ray actor with one GPU and a core, or with a core alone where no GPU is wanted. It builds the adapter from
its name and settings and loads it once; then it answers shards of a few batches until the row is done, and goes on with
the next row of the same model. A lost worker (killed, node gone) is replaced and its shards are answered by others;
nodes that join are put to work.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness.infer.ray_model import RayModel
from harness.infer.ray_worker import Recipe
from harness.types import Example, UserError


@contextmanager
def connected(definitions: Sequence[str]) -> Iterator[RayWorkers]:
    """Join the cluster that RAY_ADDRESS names or that runs on this machine, else start one here; leave it afterwards.

    Args:
        definitions: `--adapter` values, for the workers.

    Raises:
        UserError: there is no cluster at that address.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is imported
    import ray

    joined_before = ray.is_initialized()
    if not joined_before:
        _check_address(os.environ.get("RAY_ADDRESS", ""))
        with _signals_kept():
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"--executor ray: no cluster could be joined or started ({reason})") from error
    workers = RayWorkers(definitions)
    try:
        yield workers
    finally:
        workers.dismiss()
        if not joined_before:
            ray.shutdown()


def _check_address(address: str) -> None:
    """See that somebody listens at HOST:PORT; ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # none, `auto` or `local`
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"--executor ray: nothing answers at RAY_ADDRESS={address} ({error.strerror or error})"
        ) from None


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep what SIGTERM does: ray replaces it in every program that joins a cluster."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


class RayWorkers:
    """The workers of one command; they serve one model at a time."""

    def __init__(self, definitions: Sequence[str]) -> None:
        self._definitions = tuple(_with_whole_path(definition) for definition in definitions)
        self._model: RayModel | None = None

    def model(
        self,
        adapter: str,
        arguments: Mapping[str, Any],
        trained_on: str | None,
        training: Callable[[], Sequence[Example] | None],
    ) -> RayModel:
        """The model of a row: that of the row before, where it is the same, or a new one.

        Args:
            adapter, arguments, trained_on: see `Recipe`.
            training: reads the training examples.
        """
        recipe = Recipe(adapter, dict(arguments), self._definitions, os.getcwd(), trained_on)
        if self._model is None or self._model.recipe != recipe:
            self.dismiss()
            self._model = RayModel(recipe, training())
        return self._model

    def dismiss(self) -> None:
        """End the workers and free what they took."""
        if self._model is not None:
            self._model.dismiss()
            self._model = None


def _with_whole_path(definition: str) -> str:
    """`NAME=FILE.py:Class`, whatever folder it is read in."""
    name, _, target = definition.partition("=")
    return f"{name}={os.path.abspath(target)}"
