from rest_framework import generics, serializers
from rest_framework.permissions import AllowAny

from professions.models import Profession


class ProfessionSerializer(serializers.ModelSerializer[Profession]):
    task_count = serializers.IntegerField(read_only=True)
    total_minutes = serializers.IntegerField(read_only=True)

    class Meta:
        model = Profession
        fields = ["id", "slug", "language", "title", "tagline", "description", "task_count", "total_minutes"]
        read_only_fields = fields


class ProfessionList(generics.ListAPIView[Profession]):
    """All professions that can be tried."""

    permission_classes = [AllowAny]
    serializer_class = ProfessionSerializer
    queryset = Profession.objects.published().with_totals()


class ProfessionDetail(generics.RetrieveAPIView[Profession]):
    """One profession."""

    permission_classes = [AllowAny]
    serializer_class = ProfessionSerializer
    queryset = Profession.objects.published().with_totals()
