# The package set of a variant: the very nixpkgs of `pkgs` once more, so that its lock holds, with the capabilities and
# the toolkit that torch, torchvision, magma and NCCL then all agree on, and with the flags in torch. What this nixpkgs
# cannot do for the variant is `problem`, or null; `set` may be asked for torch only where it is null. A problem is
# { says, next, others }: what to do, and the variants among which there may be one without the problem.
#
# Nothing here depends on more of the variant than what is compiled, so variants that compile the same torch share it.
# `nixpkgs` is another one: a path, or { url, sha256 } of a tarball. `overlays` come before this project's own.
{
  pkgs,
  variant,
  nixpkgs,
  overlays,
  requireIsa,
  matrix,
}:
let
  inherit (variant) codegen;
  advice = import ./advice.nix;
  pinned =
    if nixpkgs ? sha256 then
      builtins.fetchTarball { inherit (nixpkgs) url sha256; }
    else
      throw "The nixpkgs of ${variant.name} is pinned by address alone (${nixpkgs.url}), which is no pin. Next: give its sha256 too.";
  source =
    if nixpkgs == null then
      pkgs.path
    else if builtins.isAttrs nixpkgs && nixpkgs ? url then
      pinned
    else
      nixpkgs;
  # Under its alias too, such as cudaPackages_12: a set in which the two differ mixes toolkits.
  toolkit = final: _: {
    cudaPackages = final.${variant.cudaPackages};
    ${variant.cudaMajorPackages} = final.${variant.cudaPackages};
  };
  tune =
    torch:
    torch.overrideAttrs (
      old:
      import ./flags.nix variant old
      // {
        passthru = (old.passthru or { }) // {
          gpuArch = if codegen == null then null else codegen.archList;
          cpuISA = variant.isa;
          cudaVersion = variant.cuda;
        };
      }
      // (
        # torch imports itself and runs tools of its own making while it is built.
        if requireIsa then { requiredSystemFeatures = (old.requiredSystemFeatures or [ ]) ++ variant.features; } else { }
      )
    );
  # `torch`, and any of a certain series that an overlay has added beside it, such as torch_2_10.
  tunedTorch = _: prev: {
    pythonPackagesExtensions = (prev.pythonPackagesExtensions or [ ]) ++ [
      (
        _: python:
        builtins.listToAttrs (
          map (name: {
            inherit name;
            value = tune python.${name};
          }) (builtins.filter (name: builtins.match "torch(_[0-9]+_[0-9]+)?" name != null) (builtins.attrNames python))
        )
      )
    ];
  };
  set = import source {
    inherit (variant) system;
    config = {
      allowUnfree = true; # CUDA
      cudaSupport = codegen != null;
    }
    // (
      if codegen == null then
        { }
      else
        {
          cudaCapabilities = [ codegen.capability ];
          cudaForwardCompat = codegen.kind == "ptx";
        }
    );
    overlays = overlays ++ [ tunedTorch ] ++ (if codegen == null then [ ] else [ toolkit ]);
  };

  # What nixpkgs has removed it keeps the name of, as an alias that throws. A toolkit that is there may still refuse the
  # variant's capabilities, and says so itself; so the question is put to a set without any.
  plain = import source {
    inherit (variant) system;
    inherit overlays;
    config.allowUnfree = true;
  };
  has = name: set ? ${name} && ((builtins.tryEval set.${name}).success || (builtins.tryEval plain.${name}).success);
  like = pattern: builtins.filter (name: builtins.match pattern name != null && has name) (builtins.attrNames set);
  list = builtins.concatStringsSep ", ";
  toolkits = like "cudaPackages_[0-9]+_[0-9]+";
  give = what: "give ${what}: ${advice.argument "nixpkgs" "PATH"}";
  legacy = "[ (import CHECKOUT/${matrix.cudaLegacy.overlay}) ]";
in
{
  inherit set;
  problem =
    if codegen != null && !has variant.cudaPackages then
      {
        says = "this nixpkgs has no ${variant.cudaPackages}; it has ${list toolkits}.";
        next =
          if builtins.all (name: builtins.compareVersions name variant.cudaPackages < 0) toolkits then
            give "a newer nixpkgs"
          else
            "bring the toolkit along: ${advice.argument "overlays" legacy}, where CHECKOUT is the path of a clone of ${matrix.cudaLegacy.url}, which keeps what nixpkgs has removed";
        others = variant.ofOtherTracks;
      }
    else if !has variant.pythonPackages then
      {
        says = "this nixpkgs has no ${variant.pythonPackages}; it has ${list (like "python3[0-9]+Packages")}.";
        next = give "a nixpkgs that has it";
        others = variant.ofOtherPythons;
      }
    else
      null;
  # Of a torch that is taken from this set.
  brokenTorch =
    torch:
    let
      why = builtins.attrNames (torch.brokenConditions or { });
    in
    if torch.meta.broken or false then
      {
        says = "this nixpkgs marks its torch ${torch.version} as broken${if why == [ ] then "" else ": ${list why}"}.";
        next = give "a nixpkgs whose torch is not";
        others = variant.ofOtherTracks;
      }
    else
      null;
}
