"""What the model is told.

The conversation of a task begins with exactly the messages of the task before it, so that a provider which caches
the beginning of prompts charges and computes it once. The learner's answers stand in user messages between markers
with a random part. No name, address or other data of a person goes in.
"""

from generation.model_request import Message
from professions.prompt import system_message, wish_for_task
from tasks import state
from tasks.models import Simulation, Task

_REPORT = """\
That was the last task. Write the final report for the learner, addressed to them, 300 to 450 words:
1. In two or three sentences, what happened because of their decisions.
2. For each task, one observation about their answer that quotes a few of their own words, what in it worked or did not
   work in that situation and why, and what an experienced person would have added.
3. Two concrete things to try next.
Do not give points or grades. A few tasks say nothing about whether somebody is fit for a job, so do
not say or hint at it.
What experienced people answered and what the authors look at, task by task:

{references}"""


_FACTS = """\
The state of the world now, by what the learner did. These are facts: let people and figures in your text agree with
them, and let at least one of the changes be felt, without naming any number that people would not know.
{facts}

"""
_MARKS = """\
This is how the answers were marked, in points. The learner sees it beside your report; do not contradict it, and do not
repeat the points.
{marks}

"""


def for_task(simulation: Simulation, task: Task) -> list[Message]:
    """Return the conversation that ends in the wish for a task of a simulation."""
    wish = _facts(simulation, before=task.order)
    wish += wish_for_task(task.brief, order=task.order, total=simulation.total)
    if task.order == 1:
        system = system_message(simulation.profession, language=simulation.language, marker=simulation.marker)
        return [system, Message(role="user", content=wish)]
    return _continued(simulation, simulation.ordered_tasks[task.order - 2], wish)


def for_report(simulation: Simulation) -> list[Message]:
    """Return the conversation that ends in the wish for the report."""
    references = "\n\n".join(_reference(task) for task in simulation.ordered_tasks)
    wish = _facts(simulation, before=simulation.current_order + 1) + _marks(simulation)
    return _continued(simulation, simulation.current_task, wish + _REPORT.format(references=references))


def _facts(simulation: Simulation, *, before: int) -> str:
    """Return the state of a run as facts that a text takes up, empty where nothing has moved it yet."""
    now = state.of_simulation(simulation, before=before)
    notes = now.notes.get(before - 1, [])
    if not any(value.changes for value in now.values) and not notes:
        return ""
    facts = "\n".join(f"- {fact}" for fact in [*now.facts(), *notes])
    return _FACTS.format(facts=facts)


def _marks(simulation: Simulation) -> str:
    """Return the marks that the report may not contradict, empty where there are none."""
    lines = [
        f"- Task {order}, {criteria[mark.criterion]['title']}: {mark.points} of {criteria[mark.criterion]['points']}. "
        f"{mark.reason}".rstrip()
        for order, assessment in state.assessments_of(simulation)
        for criteria in [{criterion["slug"]: criterion for criterion in assessment.criteria}]
        for mark in assessment.ordered_marks
    ]
    return _MARKS.format(marks="\n".join(lines)) if lines else ""


def _continued(simulation: Simulation, last: Task, wish: str) -> list[Message]:
    """Return the last task's own conversation, the text it led to, and the answer together with the next wish."""
    # A text that no model was asked for, such as an author's, has no conversation of its own.
    conversation = last.generation.messages or for_task(simulation, last)
    answer = _quoted(last.submission.answer, marker=simulation.marker)
    return [
        *conversation,
        Message(role="assistant", content=last.question),
        Message(role="user", content=f"{answer}\n\n{wish}"),
    ]


def _quoted(answer: str, *, marker: str) -> str:
    return f"<<<{marker}\n{answer.replace(marker, '')}\n{marker}>>>"


def _reference(task: Task) -> str:
    criteria = "\n".join(
        f"- {criterion.title}: {criterion.levels[-1]['description']}"
        for criterion in task.brief.criteria.order_by("order")
    )
    return (
        f"Task {task.order}, {task.title}. An experienced person's answer:\n{task.brief.expert_answer}\n"
        f"Looked at:\n{criteria}"
    )
