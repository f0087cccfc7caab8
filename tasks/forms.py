from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _


class AnswerForm(forms.Form):
    """The answer as a browser without JavaScript sends it."""

    answer = forms.CharField(required=False, strip=False)

    def clean_answer(self) -> str:
        # Forms send every line break as two characters; the API, and the limit, know one.
        answer: str = self.cleaned_data["answer"].replace("\r\n", "\n")
        if len(answer) > settings.ANSWER_MAX_CHARACTERS:
            message = _("The answer has %(length)s characters; %(most)s are allowed. Shorten it and hand it in again.")
            raise forms.ValidationError(message % {"length": len(answer), "most": settings.ANSWER_MAX_CHARACTERS})
        return answer
