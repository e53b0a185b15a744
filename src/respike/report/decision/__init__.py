"""Is spiking worth it: for each network a page with its ReLU network and every method that was run on it, side by side."""

from respike.report.decision.candidates import Candidate, Decision, decisions, default_model
from respike.report.decision.page import decision_pages, energy_table, write_decisions
from respike.report.decision.words import advice, energy_verdict

__all__ = [
    "Candidate",
    "Decision",
    "advice",
    "decision_pages",
    "decisions",
    "default_model",
    "energy_table",
    "energy_verdict",
    "write_decisions",
]
