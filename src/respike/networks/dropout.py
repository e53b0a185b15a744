"""Dropout shares of a network: one number, or one for each part of it."""

from collections.abc import Sequence

from respike.errors import InputError

Dropout = float | Sequence[float]


def dropout_shares(dropout: Dropout) -> tuple[float, float, float]:
    """The shares dropped behind the first convolution, behind the other convolutions, and around linear layers.

    dropout: one number for all three, or the three numbers. Raises InputError for anything else.
    """
    shares = [dropout] * 3 if isinstance(dropout, int | float) else list(dropout)
    if len(shares) != 3 or not all(0 <= share < 1 for share in shares):
        raise InputError(
            f"model.dropout={dropout}: a share in [0, 1), or three of them (first convolution, other convolutions, linear "
            "layers), as in model.dropout=0.5 or model.dropout=[0.3,0.4,0.5]"
        )
    first, others, linear = shares
    return first, others, linear
