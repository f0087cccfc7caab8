from django import forms

from tasks.running import too_long


class AnswerForm(forms.Form):
    """The answer as a browser without JavaScript sends it."""

    answer = forms.CharField(required=False, strip=False)

    def clean_answer(self) -> str:
        # Forms send every line break as two characters; the API, and the limit, know one.
        answer: str = self.cleaned_data["answer"].replace("\r\n", "\n")
        if message := too_long(answer):
            raise forms.ValidationError(str(message))
        return answer
