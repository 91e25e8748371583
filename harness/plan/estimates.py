"""What asking an endpoint will take at most, said before anything is sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from harness.adapters import EndpointAdapter
from harness.types import CONTEXT_MARK, Example, Item, Usage, UserError

if TYPE_CHECKING:
    from harness.plan.models import ModelSpec
    from harness.plan.plan import Plan, TaskPlan

Number = TypeVar("Number", int, float)


def largest_usage(adapter: EndpointAdapter, task: TaskPlan, spec: ModelSpec, examples: Iterable[Example]) -> Usage:
    """The most that one request about each of `examples` can take, added up; None for what is unknown of any."""
    labels, prompt = task.labels(spec), task.prompt(spec)
    total = Usage(prompt_tokens=0, completion_tokens=0, cost_usd=0.0)
    for e in examples:
        most = adapter.max_usage(Item(e.id, e.image, labels, prompt.replace(CONTEXT_MARK, e.context)))
        total = Usage(
            prompt_tokens=_sum(total.prompt_tokens, most.prompt_tokens),
            completion_tokens=_sum(total.completion_tokens, most.completion_tokens),
            cost_usd=_sum(total.cost_usd, most.cost_usd),
        )
    return total


def _sum(one: Number | None, other: Number | None) -> Number | None:
    return None if one is None or other is None else one + other


def describe_requests(
    plan: Plan, task: TaskPlan, spec: ModelSpec, examples: Iterable[Example], count: int
) -> str | None:
    """One line about tokens and dollars of `count` requests; None for a model that sends none."""
    adapter = plan.build(task, spec)
    if not isinstance(adapter, EndpointAdapter):
        return None
    most = largest_usage(adapter, task, spec, examples)
    tokens = "tokens unknown"
    if most.prompt_tokens is not None and most.completion_tokens is not None:
        tokens = f"at most {most.prompt_tokens:,} prompt and {most.completion_tokens:,} answer tokens"
    dollars = "price unknown" if most.cost_usd is None else f"at most ${most.cost_usd:.2f}"
    return f"{count} requests, {tokens}, {dollars} (retries that the endpoint bills come on top)"


def check_prices(plan: Plan) -> None:
    """See that every request's price is known, which `--max-cost` needs.

    Raises:
        UserError: an endpoint's price is unknown.
    """
    for task in plan.tasks:
        for spec in plan.models:
            adapter = plan.build(task, spec)
            if isinstance(adapter, EndpointAdapter):
                most = largest_usage(adapter, task, spec, itertools.islice(task.examples, 1))
                if most.cost_usd is None:
                    raise UserError(
                        f"--max-cost: the price of {spec.name!r} is unknown; give it in US$ per million tokens: "
                        f"{spec.adapter}:price_in=…,price_out=…"
                    )
