"""The report of a simulation without a model: composed from what the authors wrote."""

from django.utils import translation
from django.utils.translation import gettext as _

from tasks.models import Simulation, Task


def compose(simulation: Simulation) -> str:
    """Return the report as Markdown, in the simulation's language.

    It judges nothing: it says what to look for in each answer.
    """
    with translation.override(simulation.language):
        parts = [simulation.profession.report_opening]
        parts += [_section(task) for task in simulation.ordered_tasks]
        parts.append("### " + _("What to try next"))
        parts.append(simulation.profession.report_closing)
        return "\n\n".join(parts)


def _section(task: Task) -> str:
    heading = "### " + _("Task %(order)s: %(title)s") % {"order": task.order, "title": task.title}
    answered = bool(task.submission.answer.strip())
    intro = (
        _("Look at your answer again. Does it do this?")
        if answered
        else _("You left this one empty. A strong answer does this:")
    )
    points = [
        f"- **{criterion.title}.** {criterion.levels[-1]['description']}"
        for criterion in task.brief.criteria.order_by("order")
    ]
    return "\n".join([heading, "", intro, "", *points])
