# The builder that every recipe calls: a variant's name and a source of PyTorch -> a derivation.
#
#   pkgs        the nixpkgs that a recipe is called from; instantiated again, for the variant
#   torch       { source = "nixpkgs" | "recipe" | "catalog"; package; checkout; unchecked }: see pytorch.nix
#   nixpkgs     another nixpkgs than that of `pkgs`: a path, or { url, sha256 }
#   requireIsa  ask for a builder with the feature gccarch-ARCH, since torch is imported while torchvision is built
#
# TorchVision's release is the package set's, as its torch's is; that the two belong together is asserted.
{ pkgs, name, torch ? { source = "nixpkgs"; }, nixpkgs ? null, requireIsa ? false }:
let
  variant = import ./variant.nix { } name;
  inherit (variant) codegen gpu;
  here = pkgs.stdenv.hostPlatform.system;
  cpus = "CPUs from ${variant.firstCpus} on (${variant.isa})";
  meta = {
    description =
      if gpu == null then
        "TorchVision for ${cpus}"
      else
        "TorchVision for ${gpu.name} (${gpu.capability}) and ${cpus}, CUDA ${variant.cuda}";
    platforms = [ variant.system ];
    broken = variant.broken != null;
  };
  declared = {
    gpuArch = if codegen == null then null else codegen.archList;
    codegenKind = if codegen == null then null else codegen.kind;
    cpuISA = variant.isa;
    cudaVersion = variant.cuda;
    brokenReason = variant.broken;
  };

  # What cannot be built for this system has a name and a reason, and no package set is evaluated for it.
  unavailable = pkgs.stdenv.mkDerivation {
    inherit name;
    pname = name;
    buildCommand = ''
      echo "${name}: ${if variant.broken == null then "it is for ${variant.system}" else variant.broken}" >&2
      exit 1
    '';
    meta = meta // {
      longDescription = if variant.broken == null then "" else variant.broken;
    };
    passthru = declared;
  };

  set = import ./package-set.nix { inherit pkgs variant nixpkgs; };
  companion = import ./pytorch.nix { inherit pkgs set variant torch; };
  descriptor = builtins.toFile "build_torchvision.json" (
    builtins.toJSON {
      variant = name;
      backend = "nix";
      torchvision = companion.torchvision.version;
      torch = companion.torch.version;
      torch_source = torch.source;
      torch_cuda = variant.cuda;
      isa_flags = variant.flags;
      gencode = if codegen == null then [ ] else codegen.gencode;
      codegen_kind = declared.codegenKind;
    }
  );
  # A variant that is served by PTX alone names its gencode, for which TORCH_CUDA_ARCH_LIST has no words: torch leaves
  # that list alone where NVCC_FLAGS speak of an architecture.
  cuda = ''
    export FORCE_CUDA=1
  ''
  + (
    if codegen.kind == "ptx" then
      ''
        export NVCC_FLAGS="${builtins.concatStringsSep " " (map (option: "-gencode=${option}") codegen.gencode)}"
      ''
    else
      ""
  );
  # The codec that nixpkgs' torchvision leaves out and the published wheels have, from the set that torch is of.
  inherit (companion.packages.pkgs or set) libwebp;
  webp = ''
    export TORCHVISION_INCLUDE="${libwebp.dev or libwebp}/include:$TORCHVISION_INCLUDE"
    export TORCHVISION_LIBRARY="${libwebp}/lib:$TORCHVISION_LIBRARY"
  '';
  march = builtins.replaceStrings [ "-march=" ] [ "gccarch-" ] (builtins.head variant.flags);

  built = companion.torchvision.overrideAttrs (
    final: old:
    let
      tuned = import ./flags.nix variant old;
    in
    tuned
    // {
      buildInputs = (old.buildInputs or [ ]) ++ [ libwebp ];
      preConfigure = tuned.preConfigure + webp + (if codegen == null then "" else cuda);
      pname = name;
      name = "${name}-${old.version}";
      pythonImportsCheck = [
        "torchvision"
        "torchvision.ops"
        "torchvision.io"
      ];
      postInstall = (old.postInstall or "") + ''

        info=$(echo "$out"/lib/python*/site-packages/torchvision-*.dist-info)
        [ -d "$info" ] || { echo "${name}: there is not one torchvision-*.dist-info: $info" >&2; exit 1; }
        install -m 444 ${descriptor} "$info/build_torchvision.json"
      '';
      requiredSystemFeatures = (old.requiredSystemFeatures or [ ]) ++ (if requireIsa then [ march ] else [ ]);
      meta = (old.meta or { }) // meta;
      passthru =
        (old.passthru or { })
        // declared
        // {
          inherit (companion) torch;
          tests =
            (old.passthru.tests or { })
            // (
              if variant.system != "x86_64-linux" then
                { }
              else
                {
                  verify = import ./verify.nix {
                    inherit pkgs name;
                    package = final.finalPackage;
                  };
                }
            );
        };
    }
  );
in
if variant.broken != null || here != variant.system then unavailable else built
