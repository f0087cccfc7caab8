from django import forms
from django.conf import settings


class AnswerForm(forms.Form):
    """The answer as a browser without JavaScript sends it."""

    answer = forms.CharField(required=False, strip=False, max_length=settings.ANSWER_MAX_CHARACTERS)

    def clean_answer(self) -> str:
        # Forms send every line break as two characters; the API, the one.
        answer: str = self.cleaned_data["answer"]
        return answer.replace("\r\n", "\n")
