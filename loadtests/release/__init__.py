"""What a release must show: loads of a fixed profile, the bounds that they have to keep, and how much a fleet holds."""
