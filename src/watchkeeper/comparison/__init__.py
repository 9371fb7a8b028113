"""Comparing two tables: from the rows of each to what changed, in words and pictures.

In the order in which it happens: `tables` tells which columns can be compared and counts them, `baselines` keeps what
is needed of the reference, `comparing` takes each look, `structure` those at the tables as wholes, and `findings` holds
all. What was found is shown by `overview` (a line a column), `terminal` and `report`. `contract` proposes what columns
are agreed to be.
"""

from watchkeeper.comparison.baselines import Baseline, profile
from watchkeeper.comparison.comparing import Comparison, compare, looks

__all__ = ["Baseline", "Comparison", "compare", "looks", "profile"]
