"""The servers that the benchmark compares, each in processes of its own: the fleet itself, and its peers."""
