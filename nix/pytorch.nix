# The PyTorch of a variant and the Python packages it lives among, from the source that the recipe names:
#
#   nixpkgs   the package set's own, with the variant's capabilities and flags: one derivation for all that compile alike
#   recipe    the derivation that a build-pytorch checkout itself makes, imported, so that it is built and shared once
#   catalog   a published package, which the recipe writes out literally: `package`
#
# `checkout` is a path to a build-pytorch, in place of the pinned one; `series` says that its recipes are named by torch's
# series ("2.12": pytorch212-python313-...). `chosen` is that PyTorch. `matched` throws unless SM, ISA, CUDA, Python and
# release series match; what the PyTorch does not declare is refused too, unless `unchecked`.
{
  pkgs,
  set,
  variant,
  torch,
  release,
  matrix,
}:
let
  match = import ./match.nix { inherit matrix; };
  advice = import ./advice.nix;
  inherit (variant) name;
  lines = builtins.concatStringsSep "\n  ";
  ours = torch.source == "nixpkgs";
  pytorch = variant.pytorch (torch.series or null);
  warn = builtins.warn or (text: builtins.trace "warning: ${text}");

  # The pinned one brings its own nixpkgs by a fetchTarball without a hash, which pure evaluation refuses; only there
  # does currentSystem not exist.
  pinned =
    if builtins ? currentSystem then
      builtins.fetchTarball { inherit (matrix.buildPytorch) url sha256; }
    else
      throw ''
        ${name} takes PyTorch from build-pytorch ${matrix.buildPytorch.rev}, whose recipes fetch a nixpkgs without a hash, which pure evaluation refuses.
        Next: evaluate impurely, as nix-build and flox build do, or take PyTorch from a catalog or from nixpkgs.'';
  checkout = torch.checkout or pinned;
  folder = checkout + "/.flox/pkgs";
  file = folder + "/${pytorch}.nix";
  # What there is instead: the recipes of the same CPU ISA and Python.
  others = builtins.filter (
    entry: builtins.match "pytorch[0-9]*-python${variant.python}-.*-${variant.isa}\\.nix" entry != null
  ) (builtins.attrNames (builtins.readDir folder));
  recipe =
    if builtins.pathExists file then
      pkgs.callPackage file { }
    else
      throw ''
        ${name} takes PyTorch from build-pytorch, which has no recipe ${pytorch}.
        ${
          if others == [ ] then
            "It has none for ${variant.isa} and Python ${variant.pythonVersion}."
          else
            "It has for ${variant.isa}:\n  ${lines (map (entry: builtins.substring 0 (builtins.stringLength entry - 4) entry) others)}"
        }
        Next: ${
          if others == [ ] then
            ""
          else
            "choose the variant of one of these (torch.series for one whose name carries it), or "
        }torch.source = "nixpkgs", which makes the matching one.'';

  # The torch of a release's series, where the set has it: its own, or one beside it.
  row = matrix.releases.${release};
  beside = "torch_${builtins.replaceStrings [ "." ] [ "_" ] (match.series row.torch)}";
  own =
    let
      packages = set.${variant.pythonPackages};
    in
    if release != null && matrix.releases ? ${release} && packages ? ${beside} then packages.${beside} else packages.torch;

  sources = {
    nixpkgs = own;
    inherit recipe;
    catalog =
      torch.package
        or (throw ''${name} takes PyTorch from a catalog and names no package. Next: torch.package = catalogs.ORG.${pytorch}.'');
  };
  chosen =
    sources.${torch.source}
      or (throw "${name}: torch.source = \"${torch.source}\" is none of ${builtins.concatStringsSep ", " (builtins.attrNames sources)}. Next: torch.source = \"nixpkgs\".");

  # A torch of another package set brings that set's packages along: one closure, never two mixed.
  packages = if ours then set.${variant.pythonPackages} else chosen.pythonModule.pkgs or set.${variant.pythonPackages};
  torchvision =
    if ours && release == null then packages.torchvision else packages.torchvision.override { torch = chosen; };
  version = if release == null then torchvision.version else release;

  found = match.compare variant chosen;
  pair = match.pair version chosen.version;
  # A TorchVision that no row knows goes with the series of the torch beside it in its own package set.
  beyond = !pair.known && match.series chosen.version != match.series packages.torch.version;
  differences =
    found.differences
    ++ (
      if !pair.fits then
        [ "release: TorchVision ${version} belongs to torch ${pair.belongs}, and this torch is ${chosen.version}" ]
      else if beyond then
        [ "release: TorchVision ${version} is made for the torch ${packages.torch.version} beside it, and this torch is ${chosen.version}" ]
      else
        [ ]
    );
  # The releases that this torch serves.
  served = builtins.filter (
    known: matrix.releases.${known}.sha256 != null && (match.pair known chosen.version).fits
  ) (builtins.attrNames matrix.releases);
  another = advice.argument "nixpkgs" "PATH";
  build =
    if served == [ ] then
      [ ]
    else
      [
        "build a TorchVision that this torch serves, ${
          builtins.concatStringsSep " or " served
        }: ${advice.text "release" "VERSION"}"
      ];
  # What changes something, and is not what is set already.
  next = advice.either (
    (if found.differences == [ ] then build else [ ])
    ++ (
      if !ours then
        (if found.name == pytorch then [ ] else [ "take the PyTorch ${pytorch}" ])
        ++ [ "torch.source = \"nixpkgs\", which makes the matching one" ]
      else if release == null then
        [ "give another nixpkgs, whose torch and torchvision are of one series: ${another}" ]
      else
        [
          "give a nixpkgs with torch ${pair.belongs}: ${another}"
          "add that torch by an overlay as ${variant.pythonPackages}.${beside}"
        ]
    )
  );
  result = {
    inherit torchvision packages version;
    torch = chosen;
    inherit row; # of the release that was asked for
  };
in
{
  inherit chosen;
  matched =
    if release != null && !(matrix.releases ? ${release}) then
      throw ''
        ${name}: TorchVision ${release} is in no row of the table of releases, which has ${builtins.concatStringsSep ", " (builtins.attrNames matrix.releases)}.
        Next: ${advice.either (
          build ++ [ "add the row to src/build_torchvision/facts/releases.toml and type `build-torchvision recipes`" ]
        )}.''
    else if release != null && row.sha256 == null then
      throw ''
        ${name}: no sha256 of the source of TorchVision ${release} is recorded, so it cannot be fetched.
        Next: ${advice.either [
          "leave `release` out for the package set's own"
          "add the sha256 to src/build_torchvision/facts/releases.toml and type `build-torchvision recipes`"
        ]}.''
    else if differences != [ ] then
      throw ''
        ${name} and its PyTorch (${torch.source}: ${found.name}) do not match:
          ${lines differences}
        Next: ${next}.''
    else if found.undeclared != [ ] && !(torch.unchecked or false) then
      throw ''
        ${name}: the PyTorch ${found.name} (${torch.source}) does not say its ${builtins.concatStringsSep ", " found.undeclared}, so it cannot be matched.
        Next: let it declare gpuArch, cpuISA and cudaVersion in passthru, or set torch.unchecked = true and answer for it.''
    else if !pair.known then
      warn "${name}: TorchVision ${version} is in no row of the table of releases; it goes with torch ${chosen.version}, as its package set pairs them." result
    else
      result;
}
