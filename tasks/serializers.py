"""The shapes of the learner API."""

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from generation.models import Generation
from professions.models import MOST_POINTS, StateVariable
from tasks import state
from tasks.assessing import LONGEST_REASON
from tasks.models import Assessment, Simulation, Task
from tasks.running import too_long
from web.fields import IdField, StrictCharField, StrictChoiceField, StrictIntegerField
from web.problems import Problem

MOST_MARKS = 100


# Any text but one with a character that no database takes.
_TEXT = {"type": "string", "pattern": r"^[^\u0000]*$"}


@extend_schema_field({**_TEXT, "maxLength": settings.ANSWER_MAX_CHARACTERS})
class AnswerField(StrictCharField):
    pass


@extend_schema_field({**_TEXT, "maxLength": LONGEST_REASON})
class ReasonField(StrictCharField):
    pass


@extend_schema_field({**_TEXT, "minLength": 1, "maxLength": 50})
class SlugField(StrictCharField):
    pass


class AnswerSerializer(serializers.Serializer[None]):
    answer = AnswerField(allow_blank=True, trim_whitespace=False)

    def validate_answer(self, answer: str) -> str:
        if message := too_long(answer):
            raise Problem(message, code="answer_too_long", status=413)
        return answer


class NewSimulationSerializer(serializers.Serializer[None]):
    profession_id = IdField()
    language = StrictChoiceField(choices=settings.LANGUAGES, required=False)


class StateValueSerializer(serializers.Serializer[None]):
    """A number that the run moves; `change` and `reason` are those of the last answer that moved it."""

    key = serializers.CharField()
    title = serializers.CharField()
    value = serializers.IntegerField()
    minimum = serializers.IntegerField()
    maximum = serializers.IntegerField()
    unit = serializers.CharField(allow_blank=True)
    good = serializers.ChoiceField(StateVariable.Good.choices)
    shown_as = serializers.ChoiceField(StateVariable.ShownAs.choices)
    change = serializers.IntegerField()
    reason = serializers.CharField(allow_blank=True)


class MetadataSerializer(serializers.ModelSerializer[Task]):
    """What is known of a task before its text is there."""

    total = serializers.IntegerField()
    title = serializers.CharField()
    profession_id = serializers.IntegerField(source="simulation.profession_id")
    simulation_id = serializers.IntegerField()
    seconds_left = serializers.IntegerField()
    generation_id = serializers.UUIDField()
    language = serializers.CharField(source="simulation.language")
    source = serializers.ChoiceField(Generation.Source.choices, source="generation.source")  # type: ignore[assignment]  # the contract's name
    state = serializers.SerializerMethodField()

    class Meta:
        model = Task
        fields = [
            "id",
            "order",
            "total",
            "title",
            "profession_id",
            "simulation_id",
            "time_limit_minutes",
            "seconds_left",
            "generation_id",
            "language",
            "source",
            "state",
        ]

    @extend_schema_field(StateValueSerializer(many=True))
    def get_state(self, task: Task) -> list[dict[str, object]]:
        return state.of_simulation(task.simulation, before=task.order).shown()


class TaskSerializer(MetadataSerializer):
    """A task with its whole text."""

    question = serializers.CharField()
    authored_because = serializers.ChoiceField(
        Generation.AuthoredBecause.choices, source="generation.authored_because", allow_blank=True
    )
    was_cut = serializers.BooleanField(
        source="generation.was_cut", help_text="Whether the text came to its longest before it came to its end."
    )

    class Meta(MetadataSerializer.Meta):
        fields = [*MetadataSerializer.Meta.fields, "question", "authored_because", "was_cut"]


class TaskWithAnswerSerializer(TaskSerializer):
    """A task as it stands in a simulation; `answer` is null until it is handed in."""

    status = serializers.ChoiceField(Generation.Status.choices, source="generation.status")
    answer = serializers.SerializerMethodField()

    class Meta(TaskSerializer.Meta):
        fields = [*TaskSerializer.Meta.fields, "status", "answer"]

    def get_answer(self, task: Task) -> str | None:
        return task.submission.answer if task.is_submitted else None


class ReportTaskSerializer(serializers.ModelSerializer[Task]):
    """A task in the report, where the expert's answer may be shown."""

    title = serializers.CharField()
    question = serializers.CharField()
    answer = serializers.CharField(source="submission.answer")
    expert_answer = serializers.CharField(source="brief.expert_answer")

    class Meta:
        model = Task
        fields = ["id", "order", "title", "question", "answer", "expert_answer"]


class FinalReportSerializer(serializers.ModelSerializer[Simulation]):
    simulation_id = serializers.IntegerField(source="pk")
    profession_id = serializers.IntegerField()
    text = serializers.CharField(source="report.text")
    generation_id = serializers.UUIDField(source="report_id")
    source = serializers.ChoiceField(Generation.Source.choices, source="report.source")  # type: ignore[assignment]  # the contract's name
    written_at = serializers.DateTimeField(source="report.finished_at")
    was_cut = serializers.BooleanField(source="report.was_cut")
    tasks = ReportTaskSerializer(source="ordered_tasks", many=True)

    class Meta:
        model = Simulation
        fields = ["simulation_id", "profession_id", "text", "generation_id", "source", "written_at", "was_cut", "tasks"]


class SimulationSerializer(serializers.ModelSerializer[Simulation]):
    profession_id = serializers.IntegerField()
    title = serializers.CharField(source="profession.title")
    is_current = serializers.BooleanField()
    is_finished = serializers.BooleanField()
    current_order = serializers.IntegerField()
    total = serializers.IntegerField()

    class Meta:
        model = Simulation
        fields = [
            "id",
            "profession_id",
            "title",
            "language",
            "started_at",
            "is_current",
            "is_finished",
            "current_order",
            "total",
        ]


class SimulationDetailSerializer(SimulationSerializer):
    tasks = TaskWithAnswerSerializer(source="ordered_tasks", many=True)
    final_report = serializers.SerializerMethodField()

    class Meta(SimulationSerializer.Meta):
        fields = [*SimulationSerializer.Meta.fields, "tasks", "final_report"]

    @extend_schema_field(FinalReportSerializer(allow_null=True))
    def get_final_report(self, simulation: Simulation) -> dict[str, object] | None:
        return FinalReportSerializer(simulation).data if simulation.is_finished else None


class FinishedSerializer(serializers.Serializer[None]):
    """What is answered when the last task is handed in and the report is there."""

    completed = serializers.BooleanField()
    simulation_id = serializers.IntegerField()
    final_report = FinalReportSerializer()


class NextTaskSerializer(serializers.Serializer[None]):
    """What is answered to a submission while a task follows."""

    completed = serializers.BooleanField()
    next_task = TaskSerializer()


class MarkSerializer(serializers.Serializer[None]):
    """The points for one criterion. `start` and `end` count characters of the answer."""

    criterion = serializers.SlugField()
    title = serializers.CharField()
    points = serializers.IntegerField()
    most = serializers.IntegerField()
    level = serializers.CharField(help_text="What an answer of this level looks like.")
    quotation = serializers.CharField(allow_blank=True)
    start = serializers.IntegerField(allow_null=True)
    end = serializers.IntegerField(allow_null=True)
    reason = serializers.CharField(allow_blank=True)


class AssessmentSerializer(serializers.Serializer[None]):
    """The assessment in force of an answer; `points` is null until there are marks."""

    task_id = serializers.IntegerField()
    simulation_id = serializers.IntegerField()
    status = serializers.ChoiceField(Assessment.Status.choices)
    marked_by = serializers.ChoiceField(Assessment.MarkedBy.choices)
    because = serializers.ChoiceField(Assessment.Because.choices, allow_blank=True)
    points = serializers.IntegerField(allow_null=True)
    most = serializers.IntegerField()
    marks = MarkSerializer(many=True)
    next_time = serializers.CharField(allow_blank=True)
    state_changes = StateValueSerializer(many=True)
    state = StateValueSerializer(many=True)
    can_be_retried = serializers.BooleanField()
    generation_id = serializers.UUIDField(allow_null=True)


class OwnMarkSerializer(serializers.Serializer[None]):
    criterion = SlugField(min_length=1, max_length=50, trim_whitespace=False)
    points = StrictIntegerField(min_value=0, max_value=MOST_POINTS)


class OwnMarksSerializer(serializers.Serializer[None]):
    """The points that a learner gives themselves, for each criterion those of one of its levels."""

    marks = serializers.ListField(child=OwnMarkSerializer(), min_length=1, max_length=MOST_MARKS)


class ReviewSerializer(serializers.Serializer[None]):
    """Why a person is to look at an assessment."""

    reason = ReasonField(max_length=LONGEST_REASON, allow_blank=True)
