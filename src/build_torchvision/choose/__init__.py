"""Rank the variants that fit a machine."""
