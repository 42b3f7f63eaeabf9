# Hydra's jobs, one a variant that can be built: a farm's builders of each platform take them from here. `requireIsa`
# sends each to a builder whose system features say that its CPU runs the variant, such as gccarch-x86-64-v4.
{
  nixpkgs ? <nixpkgs>,
  requireIsa ? false,
}:
let
  variants = import ./default.nix { inherit nixpkgs requireIsa; };
  names = builtins.filter (name: name != "all" && !variants.${name}.meta.broken) (builtins.attrNames variants);
in
builtins.listToAttrs (
  map (name: {
    inherit name;
    value = variants.${name};
  }) names
)
