# torchvision: its architectures are those that torch says it has.
{
  lib,
  buildPythonPackage,
  libjpeg_turbo,
  libpng,
  ninja,
  numpy,
  pillow,
  scipy,
  setuptools,
  torch,
  era,
  inputs,
}:
let
  inherit (torch) cudaSupport cudaCapabilities cudaPackages;
  attrs = final: {
    pname = "torchvision";
    version = era.torchvision;
    src = {
      outPath = if inputs == null then "" else inputs.source;
      tag = "v${final.version}";
    };
    nativeBuildInputs = [ ninja setuptools ] ++ lib.optionals cudaSupport [ cudaPackages.cuda_nvcc ];
    buildInputs = [ libjpeg_turbo libpng torch.cxxdev ];
    dependencies = [ numpy pillow torch scipy ];
    env = {
      TORCHVISION_INCLUDE = "${libjpeg_turbo.dev}/include/";
      TORCHVISION_LIBRARY = "${libjpeg_turbo}/lib/";
    }
    // lib.optionalAttrs cudaSupport {
      TORCH_CUDA_ARCH_LIST = "${builtins.concatStringsSep ";" cudaCapabilities}";
      FORCE_CUDA = 1;
    };
    pythonImportsCheck = [ "torchvision" ];
    meta = {
      description = "PyTorch vision library";
      platforms = [ "x86_64-linux" "aarch64-linux" ];
    }
    // lib.optionalAttrs era.finalAttrs {
      changelog = "https://github.com/pytorch/vision/releases/tag/${final.src.tag}";
    };
  }
  // lib.optionalAttrs era.structuredAttrs { __structuredAttrs = true; }
  // lib.optionalAttrs (!era.finalAttrs) { format = "setuptools"; };
  build = buildPythonPackage.override { inherit (torch) stdenv; };
in
if era.finalAttrs then
  build attrs
else
  let
    plain = attrs plain;
  in
  build plain
