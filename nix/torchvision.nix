# The builder that every recipe calls: a variant's name and a source of PyTorch -> a derivation.
#
#   pkgs        the nixpkgs that a recipe is called from; instantiated again, for the variant
#   torch       { source = "nixpkgs" | "recipe" | "catalog"; package; checkout; series; unchecked }: see pytorch.nix
#   release     TorchVision's release ("0.25.0"), from its own source, with a torch of its series; null: the package set's
#   nixpkgs     another nixpkgs than that of `pkgs`: a path, or { url, sha256 }
#   overlays    more of nixpkgs, before what the variant changes: a toolkit that nixpkgs has removed, another torch
#   requireIsa  ask for builders whose CPU has the ISA: torch is imported while it and torchvision are built
#
# That TorchVision and torch belong together is asserted: see match.nix.
{
  pkgs,
  name,
  torch ? {
    source = "nixpkgs";
  },
  release ? null,
  nixpkgs ? null,
  overlays ? [ ],
  requireIsa ? false,
}:
let
  available = import ./available.nix {
    inherit
      pkgs
      name
      torch
      release
      nixpkgs
      overlays
      requireIsa
      ;
  };
  inherit (available) variant set broken elsewhere;
  inherit (variant) codegen gpu;
  companion = available.pytorch.matched;
  cpus = "CPUs from ${variant.firstCpus} on (${variant.isa})";
  meta = {
    description =
      if gpu == null then
        "TorchVision for ${cpus}"
      else
        "TorchVision for ${gpu.name} (${gpu.capability}) and ${cpus}, CUDA ${variant.cuda}";
    platforms = [ variant.system ];
    inherit broken;
  };
  declared = {
    gpuArch = if codegen == null then null else codegen.archList;
    codegenKind = if codegen == null then null else codegen.kind;
    cpuISA = variant.isa;
    cudaVersion = variant.cuda;
    brokenReason = available.reason;
  };

  reason =
    if broken then
      available.reason
    else
      "it is for ${variant.system}, and this package set is ${pkgs.stdenv.hostPlatform.system}'s.\nNext: `nix-build -A ${name}` of this project's default.nix, on ${variant.system} or with a remote builder of that system";

  # What cannot be built has a name, meta and a reason. It says the reason itself, which nixpkgs keeps for itself where
  # meta.broken is true.
  unavailable =
    let
      refused = throw "${name} cannot be built here: ${reason}.";
    in
    {
      type = "derivation";
      pname = name;
      inherit (variant) system;
      inherit name;
      meta = meta // {
        longDescription = reason;
      };
      drvPath = refused;
      outPath = refused;
      outputName = "out";
    }
    // declared;

  descriptor = builtins.toFile "build_torchvision.json" (
    builtins.toJSON {
      variant = name;
      backend = "nix";
      torchvision = companion.version;
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
  # Another release than the package set's: its own source, and none of the patches, which are made for the other.
  source =
    if release == null || release == companion.torchvision.version then
      { }
    else
      {
        version = release;
        # nixpkgs' own speaks of its source's tag.
        src =
          pkgs.fetchurl {
            inherit (companion.row) url sha256;
            name = "torchvision-${release}.tar.gz";
          }
          // {
            tag = "v${release}";
          };
        patches = [ ];
      };

  built = companion.torchvision.overrideAttrs (
    final: old:
    let
      tuned = import ./flags.nix variant old;
    in
    tuned
    // source
    // {
      buildInputs = (old.buildInputs or [ ]) ++ [ libwebp ];
      preConfigure = tuned.preConfigure + webp + (if codegen == null then "" else cuda);
      pname = name;
      name = "${name}-${companion.version}";
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
      requiredSystemFeatures = (old.requiredSystemFeatures or [ ]) ++ (if requireIsa then variant.features else [ ]);
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
if broken || elsewhere then unavailable else built
