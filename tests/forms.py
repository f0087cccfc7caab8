from typing import Self

import httpx2


class FormClient:
    """A browser as far as the site's forms need one: cookies, and the token against forged requests."""

    def __init__(self, url: str) -> None:
        self.http = httpx2.Client(base_url=url, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.http.get(path, headers=headers)

    def post(self, path: str, *, headers: dict[str, str] | None = None, **form: str) -> httpx2.Response:
        if "csrftoken" not in self.http.cookies:
            self.http.get("/accounts/login/")
        token = {"X-CSRFToken": self.http.cookies["csrftoken"]}
        return self.http.post(path, data=form, headers=token | (headers or {}))
