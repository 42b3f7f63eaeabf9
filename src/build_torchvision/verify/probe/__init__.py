"""Call every operator of an installed torchvision and compare it with a float64 reference.

This package runs inside another environment, by path, where build_torchvision cannot be imported: it needs torch, numpy
and Pillow beside torchvision, and imports nothing of this project. See `__main__` for how it is started.

References are written in plain float64 PyTorch, where autograd gives their gradients, in other terms than the
operators: bilinear sampling is a product with one matrix per axis, so that a fault of theirs cannot be repeated here.
"""
