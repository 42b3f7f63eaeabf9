# Every variant as an attribute: `nix-build -A torchvision-python313-cpu-avx512`. The default matrix stands at the top;
# `all` has every Python, toolkit and GPU architecture besides. A variant of another platform than this one is built by a
# remote builder of that platform, if nix.conf names one.
#
# The other arguments are those of nix/torchvision.nix.
{
  nixpkgs ? <nixpkgs>,
  torch ? {
    source = "nixpkgs";
  },
  release ? null,
  overlays ? [ ],
  requireIsa ? false,
}:
let
  # nixpkgs says itself what it needs of Nix, and a Nix without it stops in the middle of it.
  file = nixpkgs + "/lib/minfeatures.nix";
  missing = if builtins.pathExists file then (import file).missing else [ ];
  checked =
    if missing == [ ] then
      nixpkgs
    else
      throw ''
        Nix ${builtins.nixVersion} is too old for this nixpkgs (${toString nixpkgs}), which needs that ${
          builtins.concatStringsSep ", " (map (feature: feature.description) missing)
        }.
        Next: take a newer Nix (Debian 13 and Ubuntu 24.04 have one, Debian 12 does not, and Flox brings its own), or build wheels, which need none.'';
  matrix = builtins.fromJSON (builtins.readFile ./nix/matrix.json);
  variantOf = import ./nix/variant.nix { inherit matrix; };
  systems = builtins.listToAttrs (
    map (system: {
      name = system;
      value = import checked {
        inherit system;
        config = { };
        overlays = [ ];
      };
    }) [ "x86_64-linux" "aarch64-linux" ]
  );
  build =
    name:
    import ./nix/torchvision.nix {
      inherit
        name
        torch
        release
        overlays
        requireIsa
        ;
      pkgs = systems.${(variantOf name).system};
    };
  attributes =
    names:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = build name;
      }) names
    );
  each = builtins.concatMap;
  keys = builtins.attrNames;
  all = each (
    python:
    each (
      track:
      let
        sms = keys matrix.tracks.${track}.sms;
        middles = if sms == [ ] then [ track ] else map (sm: "${track}-${sm}") sms;
      in
      each (middle: map (isa: "torchvision-python${python}-${middle}-${isa}") (keys matrix.isas)) middles
    ) (keys matrix.tracks)
  ) (keys matrix.pythons);
in
attributes matrix.default // { all = attributes all; }
