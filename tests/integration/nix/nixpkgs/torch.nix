# torch: what it compiles for, and what it tells its dependents of it, which are two different things.
{
  lib,
  buildPythonPackage,
  stdenv,
  config,
  cudaSupport ? config.cudaSupport,
  cudaPackages,
  magma,
  gpuTargets ? [ ],
  era,
  inputs,
  sitePackages,
}:
let
  capabilities = cudaPackages.flags.cudaCapabilities;
  brokenConditions = lib.filterAttrs (_: holds: holds) {
    "Unsupported CUDA version" = cudaSupport && !builtins.elem cudaPackages.cudaMajorVersion era.torchCuda;
    "Magma cudaPackages does not match cudaPackages" =
      cudaSupport && magma.cudaPackages.cudaMajorMinorVersion != cudaPackages.cudaMajorMinorVersion;
  };
  attrs = {
    pname = "torch";
    version = inputs.torch or era.torch;
    outputs = [ "out" "dev" "lib" "cxxdev" ];
    # A target list given by name goes before the package set's.
    preConfigure = lib.optionalString cudaSupport ''
      export TORCH_CUDA_ARCH_LIST="${builtins.concatStringsSep ";" (if gpuTargets != [ ] then gpuTargets else capabilities)}"
    '';
    env = {
      NIX_CFLAGS_COMPILE = "-Wno-error";
    }
    // lib.optionalAttrs era.structuredAttrs { BUILD_TEST = "0"; };
    buildInputs = lib.optionals cudaSupport [ cudaPackages.nccl magma ];
    nativeBuildInputs = lib.optionals cudaSupport [ cudaPackages.cuda_nvcc ];
    requiredSystemFeatures = [ "big-parallel" ];
    pythonImportsCheck = [ "torch" ];
    site = if inputs == null then "" else inputs.site;
    # The published wheel and what it needs, in place of hours of compiling.
    buildCommand = ''
      mkdir -p $out/${sitePackages} $dev $lib $cxxdev
      for entry in $site/*; do
        case ''${entry##*/} in
          numpy*|PIL|pillow*|setuptools*|pkg_resources|_distutils_hack|wheel*|packaging*|ninja*|bin|__pycache__) ;;
          *) ln -s "$entry" $out/${sitePackages}/ ;;
        esac
      done
    '';
    passthru = {
      inherit cudaSupport cudaPackages brokenConditions;
      # From the package set, whatever gpuTargets says.
      cudaCapabilities = lib.optionals cudaSupport capabilities;
    };
    meta = {
      platforms = [ "x86_64-linux" "aarch64-linux" ];
      broken = brokenConditions != { };
    };
  }
  // lib.optionalAttrs era.structuredAttrs { __structuredAttrs = true; };
  build = buildPythonPackage.override { stdenv = if cudaSupport then cudaPackages.backendStdenv else stdenv; };
in
build (if era.finalAttrs then (_: attrs) else attrs)
