"""Call operators, keep what they return, and compare it with a reference."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}  # of the largest value of the reference
HALF_TOLERANCE = 1e-2  # of float16, on inputs whose coordinates float16 holds exactly
ITSELF = "called directly: the reference's"


class Wrong(Exception):
    """An operator's result is not the reference's."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a check that holds has seen. `error` is the largest error relative to the largest expected value."""

    detail: str
    error: float | None = None
    kernels: tuple[str, ...] | None = None
    """What a profiler saw on the GPU: `void ops::(anonymous namespace)::nms_kernel_impl<float>(int)`."""


@dataclass(kw_only=True)
class Probe:
    """One run: how operators are called, and which were."""

    on_gpu: bool = False
    """Operators are called with their tensors on the GPU, and give theirs back to the CPU."""
    registered: set[str] = field(default_factory=set)
    """Every operator that torchvision's extension modules registered, "namespace::name"."""
    called: set[str] = field(default_factory=set)
    seen: list[Tensor] = field(default_factory=list)
    """What the operators of the running check returned."""

    def op(self, name: str) -> Callable[..., Any]:
        """`namespace::name` as a callable; remembers that it was asked for."""
        self.called.add(name)
        return lambda *values: self.call(name, *values)

    def call(self, name: str, *values: Any) -> Any:
        """Call an operator where this run calls them; tensors come back on the CPU."""
        namespace, _, short = name.partition("::")
        operator = getattr(getattr(torch.ops, namespace), short)
        return moved(operator(*moved(values, "cuda")), "cpu") if self.on_gpu else operator(*values)

    def close(self, what: str, actual: Tensor, expected: Tensor, dtype: torch.dtype) -> float:
        """The error relative to the largest expected value. Raises Wrong beyond the dtype's tolerance, or for NaN."""
        actual, expected = actual.detach(), expected.detach()
        self.seen.append(actual)
        if actual.shape != expected.shape:
            raise Wrong(f"{what}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}")
        if actual.dtype != dtype:
            raise Wrong(f"{what}: {actual.dtype}, not {dtype}")
        size = float(expected.abs().max())
        if size == 0:
            raise Wrong(f"{what}: the reference is all zero and would show nothing")
        error = float((actual.double() - expected).abs().max()) / size
        limit = TOLERANCE.get(dtype, HALF_TOLERANCE)
        if not error <= limit:
            raise Wrong(f"{what} in {dtype}: off by {error:.3g} of the largest value, more than {limit:.3g}")
        return error

    def exact(self, what: str, actual: Tensor, expected: Tensor) -> None:
        """Raises Wrong unless both are the same, bit for bit."""
        self.seen.append(actual)
        if actual.shape != expected.shape or not torch.equal(actual, expected):
            raise Wrong(f"{what}: {tuple(actual.shape)} is not bit for bit the expected {tuple(expected.shape)}")

    def kept(self, what: str, actual: Tensor, expected: list[int]) -> int:
        """The number of boxes that suppression keeps. Raises Wrong unless they are those of the reference, in order."""
        self.seen.append(actual)
        if actual.tolist() != expected:
            raise Wrong(f"{what}: {len(actual)} boxes kept, the reference keeps {len(expected)}")
        return len(expected)

    def compare(
        self,
        name: str,
        call: Callable[..., Tensor],
        reference: Callable[..., Tensor],
        leaves: list[Tensor],
        precisions: tuple[torch.dtype, ...] = tuple(TOLERANCE),
    ) -> Outcome:
        """Forward in each precision, and the gradients of every leaf through autograd, against the reference's."""
        wanted = [leaf.clone().requires_grad_() for leaf in leaves]
        expected = reference(*wanted)
        grad = torch.randn_like(expected).to(precisions[-1]).double()
        gradients = torch.autograd.grad(expected, wanted, grad)
        worst = 0.0
        for dtype in precisions:
            own = [leaf.to(dtype).requires_grad_() for leaf in leaves]
            actual = call(*own)
            errors = [self.close(f"{name}, forward", actual.detach(), expected.detach(), dtype)]
            for i, (mine, right) in enumerate(
                zip(torch.autograd.grad(actual, own, grad.to(dtype)), gradients, strict=True)
            ):
                errors.append(self.close(f"{name}, gradient {i}", mine, right, dtype))
            worst = max(worst, *errors) if dtype == precisions[-1] else worst
        precision = str(precisions[-1]).removeprefix("torch.")
        return Outcome(detail=f"largest {precision} error {worst:.1e} of the largest value", error=worst)

    def digest(self) -> str:
        """A hash of all that was seen, empty where that is nothing."""
        if not self.seen:
            return ""
        hashed = hashlib.sha256()
        for tensor in self.seen:
            hashed.update(tensor.detach().contiguous().numpy().tobytes())
        return hashed.hexdigest()


def has_gpu_code(name: str) -> bool:
    """Whether the operator `name` ("torchvision::nms") has a kernel for CUDA tensors."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA"))


def moved(value: Any, device: str) -> Any:
    """`value`, or what a list or tuple of values holds, with every tensor on `device`; autograd follows."""
    if isinstance(value, (list, tuple)):
        return tuple(moved(item, device) for item in value)
    return value.to(device) if isinstance(value, Tensor) else value


def draw(*shape: int) -> Tensor:
    """Normally distributed float64 numbers."""
    return torch.randn(*shape, dtype=torch.float64)


def draw_half(*shape: int) -> Tensor:
    """At most 4096 different numbers in (-4, 4) that float16 holds, in any order.

    Of two equal ones a maximum's gradient may go to either, and rounding makes some of few thousand equal.
    """
    count = math.prod(shape)
    assert count <= 4096, "float16 holds so many multiples of 1/512 below 4"
    return (torch.randperm(count).double() - count // 2).reshape(shape) / 512


def boxes_of(count: int, batch: int, height: float, width: float) -> Tensor:
    """(count, 5): batch index, then corners inside (2, size - 2), at least a third of each side apart."""
    low, high = torch.rand(count, 2, dtype=torch.float64), torch.rand(count, 2, dtype=torch.float64)
    size = torch.tensor([width - 4, height - 4], dtype=torch.float64)
    index = (torch.arange(count) % batch).double()[:, None]
    return torch.cat([index, 2 + low * size / 3, 2 + size * (2 + high) / 3], dim=1)
