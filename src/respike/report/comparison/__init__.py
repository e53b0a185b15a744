"""Compare runs: what varies among them, maps, curves, trade-offs, means over seeds."""

from respike.report.comparison.compare import Comparison, compare
from respike.report.comparison.page import write_comparison

__all__ = ["Comparison", "compare", "write_comparison"]
