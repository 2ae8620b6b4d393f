"""What gateways remember together: tenants, keys, usage, files, batches. SQLAlchemy over SQLite or PostgreSQL."""
