"""Whether JPEGs encoded on the GPU are of the images that were given, when the GPU is still busy making them.

    ENVIRONMENT/bin/python benchmarks/encode_race.py [BATCHES]

Needs a torchvision with nvJPEG, torch and Pillow. TorchVision 0.21.0 encodes on a stream of its own that does not wait
for the caller's: an image that is not contiguous is copied first, and encoded before the copy is made.
"""

from __future__ import annotations

import io
import sys

import numpy
import torch
import torchvision
from PIL import Image
from torchvision.io import encode_jpeg

WRONG = 3  # of 255 on average: what upstream's test_encode_jpegs_batch takes for a wrong image


def decoded(data: torch.Tensor) -> torch.Tensor:
    image = Image.open(io.BytesIO(bytes(data.cpu().numpy())))
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1).float()


def main(batches: int) -> None:
    y, x = torch.arange(600.0)[:, None], torch.arange(800.0)[None, :]
    planes = [127 + 120 * torch.sin(y / (19 + 3 * c) + c) * torch.cos(x / (23 - 2 * c)) for c in range(3)]
    images = [torch.stack(planes).round().to(torch.uint8).roll(shift * 7, 2) for shift in range(4)]
    for busy in (False, True):
        wrong = 0
        for _ in range(batches):
            given = [image[None].contiguous(memory_format=torch.channels_last)[0].cuda() for image in images]
            if busy:
                matrix = torch.randn(4096, 4096, device="cuda")
                for _ in range(4):
                    matrix.mm(matrix)
            for image, data in zip(images, encode_jpeg(given, quality=75), strict=True):
                wrong += bool((decoded(data) - image.float()).abs().mean() > WRONG)
        state = "busy" if busy else "idle"
        print(f"torchvision {torchvision.__version__}, GPU {state}: {wrong} of {4 * batches} images encoded wrong")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
