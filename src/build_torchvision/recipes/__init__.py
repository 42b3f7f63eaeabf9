"""The matrix written down: every generated file of a checkout, as text."""
