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
  inputs,
}:
let
  inherit (torch) cudaSupport cudaCapabilities cudaPackages;
in
buildPythonPackage {
  pname = "torchvision";
  version = "0.21.0";
  src =
    if inputs == null then
      ""
    else
      builtins.path {
        path = inputs.source;
        name = "torchvision-0.21.0.tar.gz";
        sha256 = inputs.sha256;
        recursive = false;
      };
  nativeBuildInputs = [ ninja setuptools ] ++ lib.optionals cudaSupport [ cudaPackages.cuda_nvcc ];
  buildInputs = [ libjpeg_turbo libpng torch.cxxdev ];
  dependencies = [ numpy pillow torch scipy ];
  preConfigure = ''
    export TORCHVISION_INCLUDE="${libjpeg_turbo.dev}/include/"
    export TORCHVISION_LIBRARY="${libjpeg_turbo}/lib/"
  ''
  + lib.optionalString cudaSupport ''
    export TORCH_CUDA_ARCH_LIST="${builtins.concatStringsSep ";" cudaCapabilities}"
    export FORCE_CUDA=1
  '';
  pythonImportsCheck = [ "torchvision" ];
  meta = {
    description = "PyTorch vision library";
    platforms = [ "x86_64-linux" "aarch64-linux" ];
  };
}
