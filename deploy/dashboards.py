"""Owns what the Grafana dashboards show: of the fleet, of one model, of tenants, of capacity."""

from __future__ import annotations

from deploy.dashboard_parts import Dashboard, Query, Scope, Variable, panel

FLEET = Variable("fleet", "castalia_requests_in_flight", "job")
MODEL = Variable("model", "castalia_model_ready", "model", is_one=True)
TENANT = Variable("tenant", "castalia_requests_total", "tenant")
SERVICE = Variable("service", "castalia_model_ready", "service")

fleet = Scope('job=~"$fleet"')
model = fleet.where('model="$model"')
tenant = fleet.where('tenant=~"$tenant"')
service = fleet.where('service=~"$service"')

RINGING = 'sum by (alertname) (ALERTS{alertname=~"Castalia.*", alertstate="firing", job=~"$fleet"})'

OVERVIEW = Dashboard(
    "overview",
    "fleet",
    (FLEET,),
    (
        panel(
            "Shares of an hour's requests that failed, of its streams that began late",
            "percentunit",
            fleet.recorded("requests_failed:ratio_rate1h").named("failed"),
            fleet.recorded("first_chunk_late:ratio_rate1h").named("late"),
        ),
        panel("Alerts that ring", "short", Query(RINGING, "{{alertname}}")),
        panel("Requests a second, by status", "reqps", fleet.rate("requests_total", "status")),
        panel("Requests being answered", "short", fleet.last_seen("requests_in_flight", "gateway")),
        panel("Seconds to the last byte", "s", *fleet.quantiles("request_seconds", "route")),
        panel("Seconds to a stream's first piece", "s", *fleet.quantiles("time_to_first_chunk_seconds", "family")),
        panel("Requests refused a second", "reqps", fleet.rate("refusals_total", "reason")),
        panel(
            "Requests given up, and streams cut, a second",
            "reqps",
            fleet.rate("aborts_total", "model").named("given up"),
            fleet.rate("streams_cut_total", "model").named("cut"),
        ),
        panel("Tokens a second", "short", fleet.rate("tokens_total", "kind")),
        panel("Work a second, in each model's unit", "short", fleet.rate("units_total", "model")),
        panel("Replicas with the model loaded", "short", fleet.total("model_ready", "service", "model")),
        panel("Gateways that share tenants' limits", "short", fleet.last_seen("limits_shared", "gateway")),
    ),
)

FORMS = {"compiled": "forms_compiled_total", "refused": "forms_refused_total", "found": "forms_found_total"}

ONE_MODEL = Dashboard(
    "model",
    "model",
    (FLEET, MODEL),
    (
        panel("Requests a second, by status", "reqps", model.rate("requests_total", "status")),
        panel("Requests refused a second", "reqps", model.rate("refusals_total", "reason")),
        panel("Seconds to the last byte", "s", *model.quantiles("request_seconds", "route")),
        panel("Seconds to a stream's first piece", "s", *model.quantiles("time_to_first_chunk_seconds")),
        panel("Seconds between pieces of a stream", "s", *model.quantiles("inter_chunk_seconds")),
        panel("Seconds in the queue", "s", *model.quantiles("queue_seconds")),
        panel("Seconds from submission to a row's first chunk", "s", *model.quantiles("row_first_chunk_seconds")),
        panel("Seconds a step", "s", *model.quantiles("step_seconds")),
        panel(
            "Rows",
            "short",
            model.total("waiting_rows").named("waiting"),
            model.total("running_rows").named("running"),
            model.total("batch_places").named("places"),
        ),
        panel(
            "Rows a step",
            "short",
            model.rate("row_steps_total").over(model.rate("steps_total")).named("mean"),
            model.quantile(0.95, "batch_occupancy"),
        ),
        panel("Steps a second", "short", model.rate("steps_total", "replica")),
        panel("Tokens a second", "short", model.rate("tokens_total", "kind")),
        panel(
            "Share of prompts' tokens that were read before",
            "percentunit",
            model.recorded("cache_hit:ratio_rate5m").named("of late"),
            model.largest("cache_hit_ratio", "gateway").named("since the start of"),
        ),
        panel(
            "Tokens guessed ahead a second",
            "short",
            model.rate("guessed_tokens_total").named("checked"),
            model.rate("accepted_tokens_total").named("right"),
        ),
        panel("Forms of answers a second", "short", *[model.rate(each).named(name) for name, each in FORMS.items()]),
        panel("Seconds that new forms took, a second", "s", model.rate("form_seconds_total")),
        panel("Rows a second, by how they end", "short", model.rate("finished_rows_total", "reason")),
        panel("Seconds that the last load took", "s", model.largest("model_load_seconds", "replica")),
        panel("Memory that the loaded model may take", "bytes", model.total("model_memory_bytes", "replica")),
        panel("Seconds that a step took a running row of late", "s", model.largest("seconds_per_step", "replica")),
        panel("Work over cost of late", "percentunit", model.largest("used_cost_ratio", "replica")),
        panel("Copies of requests a second", "reqps", model.rate("mirrored_total", "outcome")),
    ),
)

TENANTS = Dashboard(
    "tenants",
    "tenants",
    (FLEET, TENANT),
    (
        panel("Requests a second", "reqps", tenant.rate("requests_total", "tenant")),
        panel(
            "Share of requests that failed",
            "percentunit",
            tenant.where('status=~"5.."')
            .rate("requests_total", "tenant")
            .over(tenant.rate("requests_total", "tenant")),
        ),
        panel("Work charged a second, in units", "short", tenant.rate("request_units_total", "tenant", "model")),
        panel("Tokens a second", "short", tenant.rate("tokens_total", "tenant", "kind")),
        panel("Tokens a second that were read before", "short", tenant.rate("cached_tokens_total", "tenant")),
        panel("Requests refused a second", "reqps", tenant.rate("refusals_total", "tenant", "reason")),
        panel("Beyond the tenant's own limits", "reqps", tenant.rate("limit_refusals_total", "tenant", "limit")),
        panel("Requests given up a second", "reqps", tenant.rate("aborts_total", "tenant")),
        panel("Cost that waits, in units", "short", tenant.total("tenant_waiting_cost", "tenant", "priority")),
    ),
)

CAPACITY = Dashboard(
    "capacity",
    "capacity",
    (FLEET, SERVICE),
    (
        panel(
            "Replicas",
            "short",
            service.recorded("service_replicas:count", "service"),
            service.largest("service_replicas_max", "service").named("most:"),
        ),
        panel(
            "Seconds that a request is predicted to wait",
            "s",
            service.recorded("service_wait_seconds:min", "service"),
            service.largest("service_target_wait_seconds", "service").named("replicas are added above:"),
        ),
        panel(
            "How full batches are", "percentunit", service.recorded("batch_occupancy:ratio_rate5m", "service", "model")
        ),
        panel("Units a second while rows waited", "short", service.total("units_per_second", "service", "model")),
        panel("Units a second", "short", service.rate("units_total", "service", "model")),
        panel("Cost that waits, in units", "short", service.total("waiting_cost", "service", "model")),
        panel(
            "Memory of devices",
            "bytes",
            service.total("device_memory_allocated_bytes", "service", "replica", "device"),
            service.total("device_memory_limit_bytes", "service", "replica", "device").named("most:"),
        ),
        panel("Memory that loaded models may take", "bytes", service.total("model_memory_bytes", "service", "model")),
        panel("Engines that work", "short", service.total("engine_up", "service")),
        panel(
            "Rows that end at their deadline, a second",
            "short",
            service.where('reason="deadline"').rate("finished_rows_total", "service", "model"),
        ),
    ),
)

DASHBOARDS = (OVERVIEW, ONE_MODEL, TENANTS, CAPACITY)
