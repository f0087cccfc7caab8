"""The records of a learner's run."""

from tasks.models.assessment import Assessment, Mark, Review
from tasks.models.simulation import (
    Simulation,
    SimulationQuerySet,
    Submission,
    Task,
    TaskQuerySet,
    new_marker,
)

__all__ = [
    "Assessment",
    "Mark",
    "Review",
    "Simulation",
    "SimulationQuerySet",
    "Submission",
    "Task",
    "TaskQuerySet",
    "new_marker",
]
