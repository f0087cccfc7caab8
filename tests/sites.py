"""A site of many processes on PostgreSQL and Redis."""

from tests.conftest import KEY, SECRET_KEY, Server, ServerStarter, new_tokens
from tests.fake_openai import FakeOpenAI
from tests.stores import Postgres, Redis


class Site:
    """Some servers of one site, each of so many workers, and a learner with a token."""

    def __init__(
        self,
        postgres: Postgres,
        redis: Redis,
        start_server: ServerStarter,
        provider: FakeOpenAI,
        *,
        servers: int = 2,
        workers: int = 1,
    ) -> None:
        self.postgres = postgres
        self.environment = {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": redis.url,
            "SECRET_KEY": SECRET_KEY,
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": provider.base_url,
        }
        self.start_server = start_server
        self.workers = workers
        self.servers: list[Server] = []
        for _ in range(servers):
            self.start()
        self.first, self.second = self.servers[0], self.servers[-1]
        ((self.profession,),) = postgres.rows("SELECT id FROM professions_profession WHERE slug = 'nurse'")
        (self.token,) = self.new_tokens(1)

    def start(self) -> Server:
        server = self.start_server("--workers", str(self.workers), **self.environment)
        self.servers.append(server)
        return server

    def new_tokens(self, count: int) -> list[str]:
        """Make other learners and give a token of each."""
        return new_tokens(count, environment=self.environment)

    @property
    def current(self) -> str:
        return f"/api/tasks/profession/{self.profession}/current/stream"

    def status(self) -> tuple[object, ...]:
        ((status, epoch, text),) = self.postgres.rows(
            "SELECT g.status, g.epoch, g.text FROM generation_generation g "
            "JOIN knox_authtoken t ON t.user_id = g.user_id WHERE t.token_key = %s",
            self.token[:15],
        )
        return status, epoch, text

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
