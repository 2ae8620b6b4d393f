"""Whether lm-evaluation-harness finds the same by the gateway as by its own backend."""
