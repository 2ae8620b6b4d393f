"""A tenant's own limits: requests and units a minute, concurrency, the month's quota."""

from services.gateway.limits.metrics import LimitMetrics
from services.gateway.limits.protocols import Charge, Limiter, NoCharge
from services.gateway.limits.tenant_limiter import TenantLimiter, make_limiter

__all__ = ["Charge", "LimitMetrics", "Limiter", "NoCharge", "TenantLimiter", "make_limiter"]
