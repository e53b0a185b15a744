"""A row of the benchmark: a dict; who could not run has a `reason`."""

from typing import Any

from respike.bench.isolated import call
from respike.bench.plan import Plan

Row = dict[str, Any]


def isolated(plan: Plan, log: tuple[str, ...], function: str, limit: float | None = None, **arguments: Any) -> Row:
    """`isolated.call` of a "package.module.function" with the plan's threads and limit (seconds, or another), which prints into
    a file under the plan's `logs` that is named by the words `log`."""
    place = plan.out / "logs" / f"{file_name(*log)}.log"
    return call(function, place, limit or plan.limit, plan.threads, **arguments)


def file_name(*words: str) -> str:
    """Words joined, in lower case, without blanks, commas and dots."""
    return "-".join(words).replace(", ", "-").replace(" ", "-").replace(".", "-").lower()


def summary(row: Row) -> str:
    """A row in a few words, for the line of progress."""
    if row.get("reason"):
        return row["reason"]
    if row["part"] == "direct":
        return f"{1000 / row['images_per_second']:.1f} ms per image, {row['mib_per_image']:.1f} MiB"
    if row["part"] == "train":
        return f"{row['images_per_second']:,.0f} images per second, {100 * row['accuracy']:.2f} % after them"
    if "accuracy" in row:
        spent = f"{row['seconds_per_10000']:.2f} s for 10,000 images, {100 * row['accuracy']:.2f} %"
        if row["part"] == "exact":
            return f"{spent}, {row['images']:,} images, {row['runs']} runs"
        return f"{spent}, {row['images']:,} images, {row['runs']} runs, batch {row['batch'] or 'its own'}"
    if "fp32" in row:
        return f"{row['fp32']:.1f} s in fp32, {row['bf16']:.1f} s in bf16 for 10,000 images"
    if "counts_differ" in row:
        return f"{100 * row['counts_differ']:.3f} % of the final counts differ"
    return f"{row['images']:,} images, {row['steps']} steps: {row['seconds']:.2f} s"
