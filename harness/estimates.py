"""What asking an endpoint will take at most, said before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from harness.adapters import EndpointAdapter
from harness.types import CONTEXT_MARK, Example, Item, Usage, UserError

if TYPE_CHECKING:
    from harness.model_spec import ModelSpec
    from harness.plan import Plan, TaskPlan

Number = TypeVar("Number", int, float)


def largest_usage(adapter: EndpointAdapter, task: TaskPlan, spec: ModelSpec, examples: Sequence[Example]) -> Usage:
    """The most that one request about each of `examples` can take, added up; None for what is unknown of any."""
    labels, prompt = task.labels(spec), task.prompt(spec)
    items = [Item(e.id, e.image, labels, prompt.replace(CONTEXT_MARK, e.context)) for e in examples]
    most = [adapter.at_most(item) for item in items]
    return Usage(
        prompt_tokens=_total([usage.prompt_tokens for usage in most]),
        completion_tokens=_total([usage.completion_tokens for usage in most]),
        cost_usd=_total([usage.cost_usd for usage in most]),
    )


def _total(amounts: Sequence[Number | None]) -> Number | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def describe_requests(plan: Plan, task: TaskPlan, spec: ModelSpec, examples: Sequence[Example]) -> str | None:
    """One line about requests, tokens and dollars; None for a model that sends none."""
    adapter = plan.build(task, spec)
    if not isinstance(adapter, EndpointAdapter):
        return None
    most = largest_usage(adapter, task, spec, examples)
    tokens = "tokens unknown"
    if most.prompt_tokens is not None and most.completion_tokens is not None:
        tokens = f"at most {most.prompt_tokens:,} prompt and {most.completion_tokens:,} answer tokens"
    dollars = "price unknown" if most.cost_usd is None else f"at most ${most.cost_usd:.2f}"
    return f"{len(examples)} requests, {tokens}, {dollars} (retries that the endpoint bills come on top)"


def check_prices(plan: Plan) -> None:
    """See that every request's price is known, which `--max-cost` needs.

    Raises:
        UserError: an endpoint's price is unknown.
    """
    for task in plan.tasks:
        for spec in plan.models:
            adapter = plan.build(task, spec)
            if isinstance(adapter, EndpointAdapter):
                most = largest_usage(adapter, task, spec, task.examples[:1])
                if most.cost_usd is None:
                    raise UserError(
                        f"--max-cost: the price of {spec.name!r} is unknown; give it in US$ per million tokens: "
                        f"{spec.adapter}:price_in=…,price_out=…"
                    )
