# The PyTorch of a variant and the Python packages it lives among, from the source that the recipe names:
#
#   nixpkgs   the package set's own, with the variant's capabilities and flags: one derivation for all that compile alike
#   recipe    the derivation that a build-pytorch checkout itself makes, imported, so that it is built and shared once
#   catalog   a published package, which the recipe writes out literally: `package`
#
# `checkout` is a path to a build-pytorch, in place of the pinned one. Throws unless SM, ISA, CUDA, Python and release
# match; what the PyTorch does not declare is refused too, unless `unchecked`.
{ pkgs, set, variant, torch, matrix ? builtins.fromJSON (builtins.readFile ./matrix.json) }:
let
  match = import ./match.nix { inherit matrix; };
  inherit (variant) name;
  lines = builtins.concatStringsSep "\n  ";

  # The pinned one brings its own nixpkgs by a fetchTarball without a hash, which pure evaluation refuses; only there
  # does currentSystem not exist.
  pinned =
    if builtins ? currentSystem then
      builtins.fetchTarball { inherit (matrix.buildPytorch) url sha256; }
    else
      throw ''
        ${name} takes PyTorch from build-pytorch ${matrix.buildPytorch.rev}, whose recipes fetch a nixpkgs without a hash, which pure evaluation refuses.
        Next: evaluate impurely, as nix-build does, or take PyTorch from a catalog or from nixpkgs.'';
  checkout = torch.checkout or pinned;
  folder = checkout + "/.flox/pkgs";
  file = folder + "/${variant.pytorch}.nix";
  # What there is instead: the recipes of the same CPU ISA and Python.
  others = builtins.filter (
    entry: builtins.match "pytorch-python${variant.python}-.*-${variant.isa}\\.nix" entry != null
  ) (builtins.attrNames (builtins.readDir folder));
  recipe =
    if builtins.pathExists file then
      pkgs.callPackage file { }
    else
      throw ''
        ${name} takes PyTorch from build-pytorch, which has no recipe ${variant.pytorch}.
        It has for ${variant.isa}:
          ${lines (map (entry: builtins.substring 0 (builtins.stringLength entry - 4) entry) others)}
        Next: choose the variant of one of these, or torch.source = "nixpkgs", which makes the matching one.'';

  sources = {
    nixpkgs = set.${variant.pythonPackages}.torch;
    inherit recipe;
    catalog =
      torch.package
        or (throw ''${name} takes PyTorch from a catalog and names no package. Next: torch.package = catalogs.ORG.${variant.pytorch}.'');
  };
  chosen =
    sources.${torch.source}
      or (throw "${name}: torch.source = \"${torch.source}\" is none of ${builtins.concatStringsSep ", " (builtins.attrNames sources)}.");

  # A torch of another package set brings that set's packages along: one closure, never two mixed.
  packages = if torch.source == "nixpkgs" then set.${variant.pythonPackages} else chosen.pythonModule.pkgs or set.${variant.pythonPackages};
  torchvision =
    if torch.source == "nixpkgs" then packages.torchvision else packages.torchvision.override { torch = chosen; };

  found = match.compare variant chosen;
  pair = match.pair torchvision.version chosen.version;
  differences = found.differences ++ (if pair == null then [ ] else [ pair ]);
in
if differences != [ ] then
  throw ''
    ${name} and its PyTorch (${torch.source}: ${found.name}) do not match:
      ${lines differences}
    Next: take the PyTorch ${variant.pytorch}, or torch.source = "nixpkgs", which makes the matching one.''
else if found.undeclared != [ ] && !(torch.unchecked or false) then
  throw ''
    ${name}: the PyTorch ${found.name} (${torch.source}) does not say its ${builtins.concatStringsSep ", " found.undeclared}, so it cannot be matched.
    Next: let it declare gpuArch, cpuISA and cudaVersion in passthru, or set torch.unchecked = true and answer for it.''
else
  {
    inherit torchvision packages;
    torch = chosen;
  }
