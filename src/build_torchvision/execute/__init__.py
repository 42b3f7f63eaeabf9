"""Run a build graph with ninja."""
