"""TorchVision built for exactly the machine it runs on, and proved to be."""

__version__ = "0.1.0"
