"""The matrix: names and variants."""

import pytest

from build_torchvision.errors import BadInput
from build_torchvision.variants import enumerate_variants, every_variant, parse


def test_the_default_matrix_is_54_cuda_variants_and_6_cpu_variants() -> None:
    variants = enumerate_variants()
    assert len({str(variant) for variant in variants}) == 60
    assert sum(variant.track == "cpu" for variant in variants) == 6


def test_every_name_reads_back_as_the_variant_that_wrote_it() -> None:
    for variant in every_variant():
        assert parse(str(variant)) == variant


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(BadInput):
        parse("torchvision-python313-cuda13_0-sm70-avx2")
