"""What users ask for, one module a modality, and the classes of users that Locust knows."""
