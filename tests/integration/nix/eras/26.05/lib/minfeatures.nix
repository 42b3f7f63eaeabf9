# What this set needs of Nix, in the form of nixpkgs' own file, which asks for 2.18.
let
  features = [
    {
      description = "`builtins.nixVersion` reports at least 2.8";
      condition = builtins ? nixVersion && builtins.compareVersions "2.8" builtins.nixVersion != 1;
    }
  ];
  evaluated = builtins.partition ({ condition, ... }: condition) features;
in
{
  all = features;
  supported = evaluated.right;
  missing = evaluated.wrong;
}
