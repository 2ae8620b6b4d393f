"""Load tests (Locust) and side-by-side benchmarks. All but the bench's bare loops speak to a fleet over HTTP alone."""
