# Hydra's jobs, one a variant that can be built: a farm's builders of each platform take them from here. `requireIsa`
# sends torch and torchvision to a builder whose system features say that its CPU runs the variant: gccarch-x86-64-v4 and
# its like, and avx512vnni, avx512bf16 and fp16 for what a level does not say.
{
  nixpkgs ? <nixpkgs>,
  release ? null,
  overlays ? [ ],
  requireIsa ? false,
}:
let
  variants = import ./default.nix {
    inherit
      nixpkgs
      release
      overlays
      requireIsa
      ;
  };
  matrix = builtins.fromJSON (builtins.readFile ./nix/matrix.json);
  variantOf = import ./nix/variant.nix { inherit matrix; };
  # Beside what the table says of a single variant, a toolkit, a Python and its torch are there for all or for none: one
  # variant each is asked, since each brings a package set of its own.
  groupOf =
    name:
    let
      variant = variantOf name;
    in
    "${variant.python}-${variant.track}-${variant.system}";
  possible = builtins.filter (name: name != "all" && (variantOf name).broken == null) (builtins.attrNames variants);
  broken = builtins.mapAttrs (_: names: variants.${builtins.head names}.meta.broken) (
    builtins.groupBy groupOf possible
  );
  names = builtins.filter (name: !broken.${groupOf name}) possible;
in
builtins.listToAttrs (
  map (name: {
    inherit name;
    value = variants.${name};
  }) names
)
