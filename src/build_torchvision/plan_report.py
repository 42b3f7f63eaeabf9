"""Say what `build` would do for a variant, from the tables alone: nothing is fetched and nothing runs."""

from __future__ import annotations

from build_torchvision.facts import Release
from build_torchvision.flags import cuda_codegen, isa_flags
from build_torchvision.inputs.cache import cache_dir
from build_torchvision.inputs.codecs import KNOWN
from build_torchvision.inputs.precheck import check_request
from build_torchvision.inputs.resolve import BuildRequest, glibc_of
from build_torchvision.operators import Choice, tuned_operators
from build_torchvision.releases import TorchBuild, newest, published_cubins
from build_torchvision.requests import is_version, torch_named
from build_torchvision.spec import CodecIdentity, SourceIdentity, TorchIdentity, WheelSpec, resolved_tuning
from build_torchvision.variants import Variant


def planned_spec(request: BuildRequest, variant: Variant) -> WheelSpec:
    """The facts of `variant`'s wheel as far as the tables tell them, before any input is resolved."""
    release, glibc = request.release, glibc_of(request)
    torch = torch_named(request.torch)
    published = request.torch_index is None and (request.torch is None or is_version(request.torch))
    return WheelSpec(
        variant=variant,
        release=release,
        source=SourceIdentity(version=release.torchvision, sha256=release.sha256 or "", origin="archive"),
        torch=TorchIdentity(
            version=torch.version if torch else release.torch,
            local=torch.local if torch else None,
            cuda=torch.cuda if torch else release.torch_cuda(variant.platform),
            cxx11_abi=True,
            cubins=published_cubins(torch or TorchBuild(version=release.torch), variant) if published else None,
        ),
        compiler=request.compiler,
        ptx=request.ptx,
        codecs=tuple(CodecIdentity(name=name, version="") for name in KNOWN if name not in request.without),
        tuning=resolved_tuning(variant, enabled=request.tuning),
        glibc=None if glibc == "host" else glibc,
        any_python=request.any_python or release.stable_abi,
        with_variant_label=request.with_variant_label,
    )


def describe_plan(request: BuildRequest, variant: Variant) -> dict[str, object]:
    """What `build` would do for `variant`, as `plan --json` prints it. Raises BadInput for what it would refuse."""
    check_request(request)
    spec = planned_spec(request, variant)
    codegen = cuda_codegen(variant, ptx=request.ptx)
    level = spec.glibc.replace(".", "_") if spec.glibc else "*"
    return {
        "variant": str(variant),
        "torchvision": spec.source.version,
        "torch": spec.torch.version,
        "source": str(request.source) if request.source else None,
        "source_sha256": None if request.source else spec.release.sha256,
        "isa_flags": list(isa_flags(variant)),
        "gencode": list(codegen.gencode) if codegen else [],
        "compiler": request.compiler,
        **operators_of_build(variant, spec.release, request.operators),
        "glibc": spec.glibc or "host",
        "codecs": [codec.name for codec in spec.codecs],
        "codec_source": "pinned" if spec.glibc else "system",
        "cache": str(cache_dir()),
        "wheel": spec.file_name(f"manylinux_{level}_{variant.platform}"),
    }


def operators_of_build(
    variant: Variant, release: Release | None = None, choice: Choice = Choice.TUNED
) -> dict[str, list[str]]:
    """Which operators a wheel of `variant` has kernels of ours for, on the CPU and the GPU; all others have upstream's.

    Without `release` it is the newest of the variant's track.
    """
    chosen = release or newest(variant)
    if chosen is None:
        return {"tuned_operators": [], "tuned_gpu_operators": []}
    return {
        "tuned_operators": list(tuned_operators(chosen, choice)),
        "tuned_gpu_operators": list(tuned_operators(chosen, choice, gpu=True)) if variant.cuda else [],
    }
