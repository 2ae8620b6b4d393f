"""Configuration: models.yaml (`models`) and the process settings (`settings`)."""
