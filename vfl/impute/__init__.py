"""Imputers: one file each. What stands in for the columns or the embedding of a party that does not hold a row."""
