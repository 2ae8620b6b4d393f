"""The server: engine, families, replicas, gateway and command line."""
