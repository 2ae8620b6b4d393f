"""Batches: files of requests, run line by line beside everything else, each to exactly one result and one charge."""
