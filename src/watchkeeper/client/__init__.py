"""The part of watchkeeper that runs in serving processes: it logs predictions and labels.

Light: standard library only. pyarrow (for tables) and NVML (for the memory of GPUs) are used where they are installed,
and loaded when they are needed.
"""

from __future__ import annotations

from watchkeeper.client.asgi import PredictionMiddleware
from watchkeeper.client.client import Client
from watchkeeper.client.prediction import Prediction, current
from watchkeeper.client.sender import BATCH, Stats

__all__ = ["BATCH", "Client", "Prediction", "PredictionMiddleware", "Stats", "current"]
