"""Diagnose why TorchVision does not work in an environment, from its files."""
