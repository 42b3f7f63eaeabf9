# What a variant is built with, or why it cannot be: { variant, set, pytorch, broken, reason, elsewhere }. The arguments are
# those of torchvision.nix. `reason` says why it is `broken` and what to do, and is null where it is not. A variant of
# another system than that of `pkgs` is `elsewhere`, which is no defect; no package set is asked then.
{
  pkgs,
  name,
  torch,
  release,
  nixpkgs,
  overlays,
  requireIsa,
}@arguments:
let
  matrix = builtins.fromJSON (builtins.readFile ./matrix.json);
  variant = import ./variant.nix { inherit matrix; } name;
  package-set = import ./package-set.nix {
    inherit
      pkgs
      variant
      nixpkgs
      overlays
      requireIsa
      matrix
      ;
  };
  pytorch = import ./pytorch.nix {
    inherit
      pkgs
      variant
      torch
      release
      matrix
      ;
    inherit (package-set) set;
  };
  elsewhere = pkgs.stdenv.hostPlatform.system != variant.system;
  problem =
    if variant.broken != null then
      {
        says = variant.broken;
        next = "`build-torchvision variants '*-${variant.sm}-*' --all` lists what serves this GPU";
        others = [ ];
      }
    else if elsewhere then
      null
    else if package-set.problem != null then
      package-set.problem
    else if torch.source == "nixpkgs" then
      package-set.brokenTorch pytorch.chosen
    else
      null;
  # Only what this nixpkgs can build is advised.
  builds = other: !(import ./available.nix (arguments // { name = other; })).broken;
  explain =
    {
      says,
      next,
      others,
    }:
    let
      instead = builtins.filter builds others;
    in
    "${says}\nNext: "
    + (import ./advice.nix).either (
      [ next ] ++ (if instead == [ ] then [ ] else [ "choose ${builtins.concatStringsSep ", " instead}" ])
    );
in
{
  inherit variant pytorch elsewhere;
  inherit (package-set) set;
  broken = problem != null;
  reason = if problem == null then null else explain problem;
}
