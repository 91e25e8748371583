"""Who is measured: one file per kind of model. Users subclass `LocalAdapter` or `EndpointAdapter`."""

from harness.adapters.base import EndpointAdapter, LocalAdapter, Teacher, TrainRequest

__all__ = ["EndpointAdapter", "LocalAdapter", "Teacher", "TrainRequest"]
