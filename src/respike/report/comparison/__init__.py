"""Runs laid beside each other: what varies among them, maps, curves and trade-offs, means over seeds."""

from respike.report.comparison.gather import Comparison, compare
from respike.report.comparison.page import write_comparison

__all__ = ["Comparison", "compare", "write_comparison"]
