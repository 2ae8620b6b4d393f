"""`python -m loadtests.planner`: replicas, devices, cost and kept objectives for a traffic forecast, by simulation."""
