"""Check that a package is what its name says: read it, then run it."""
