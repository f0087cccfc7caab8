"""A model that is there to show how texts stream: what it writes makes no sense, and pages say so."""

TOY_MODEL = "smollm2-135m-toy"
