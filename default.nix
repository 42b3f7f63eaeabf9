# Every variant as an attribute: `nix-build -A torchvision-python313-cpu-avx512`. The default matrix stands at the top;
# `all` has every Python, toolkit and GPU architecture besides. A variant of another platform than this one is built by a
# remote builder of that platform, if nix.conf names one.
{
  nixpkgs ? <nixpkgs>,
  torch ? {
    source = "nixpkgs";
  },
  requireIsa ? false,
}:
let
  matrix = builtins.fromJSON (builtins.readFile ./nix/matrix.json);
  variantOf = import ./nix/variant.nix { inherit matrix; };
  systems = builtins.listToAttrs (
    map (system: {
      name = system;
      value = import nixpkgs {
        inherit system;
        config = { };
        overlays = [ ];
      };
    }) [ "x86_64-linux" "aarch64-linux" ]
  );
  build =
    name:
    import ./nix/torchvision.nix {
      inherit name torch requireIsa;
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
