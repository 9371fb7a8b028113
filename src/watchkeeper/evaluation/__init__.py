"""Evaluating predictions by their labels: from rows to every metric with its interval, in words and pictures.

In the order in which it happens: `rows` tells what the predictions are of and types them, `counting` reads them into
counts, `evaluating` takes every metric of these. What was found is shown by `terminal` and `report`.
"""

from watchkeeper.evaluation.evaluating import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
