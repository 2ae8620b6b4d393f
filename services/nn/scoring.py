"""Owns what score tasks of all families share: which metric is meant, and what a metric that draws nothing refuses."""

from __future__ import annotations

from collections.abc import Collection

from shared.errors import InvalidRequest
from shared.schemas.scores import Metric, ScoreRequest


def chosen_metric(request: ScoreRequest, metrics: Collection[Metric], model: str) -> Metric:
    """The one that is asked for, the first of `metrics` if none is. Raises InvalidRequest, which lists them."""
    metric = request.metric or next(iter(metrics))
    if metric not in metrics:
        raise InvalidRequest(
            f"Model '{model}' has no metric '{metric}'; it has: {', '.join(metrics)}.",
            param="metric",
            code="unsupported_metric",
        )
    return metric


def refuse_samples(request: ScoreRequest, metric: Metric, model: str) -> None:
    """Raises InvalidRequest for `samples` of a metric that draws nothing; a `seed` is taken of any."""
    if request.samples is not None:
        raise InvalidRequest(
            f"'{metric}' of model '{model}' draws nothing, so it has no samples.",
            param="samples",
            code="unsupported_parameter",
        )
