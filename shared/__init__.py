"""What gateway and replicas agree on: schemas, events, errors, configuration. Third-party imports: pydantic alone."""
