from generation.models.attempt import Attempt, Spending
from generation.models.candidate import CandidateHealth
from generation.models.daily_tokens import DailyTokens, Whose
from generation.models.generation import FINAL, FORGOTTEN, LEASE, MOST_TAKEOVERS, RENEW_SECONDS, Generation
from generation.models.job import Job

__all__ = [
    "FINAL",
    "FORGOTTEN",
    "LEASE",
    "MOST_TAKEOVERS",
    "RENEW_SECONDS",
    "Attempt",
    "CandidateHealth",
    "DailyTokens",
    "Generation",
    "Job",
    "Spending",
    "Whose",
]
