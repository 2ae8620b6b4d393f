"""The load generator: requests that are sent on time, what became of each, and the sum over all processes."""
