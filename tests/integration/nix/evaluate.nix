# What a test asks of the recipes of a tree, as one value: per recipe, what reaches the build environment.
#
#   nix-instantiate --eval --strict --json evaluate.nix --arg root PATH --arg nixpkgs PATH
{
  root,
  nixpkgs,
  folder ? root + "/.flox/pkgs",
  catalogs ? { },
}:
let
  matrix = builtins.fromJSON (builtins.readFile (root + "/nix/matrix.json"));
  variantOf = import (root + "/nix/variant.nix") { inherit matrix; };
  loaded = builtins.listToAttrs (
    map (system: {
      name = system;
      value = import ./flox.nix {
        inherit folder catalogs;
        pkgs = import nixpkgs { inherit system; };
      };
    }) [ "x86_64-linux" "aarch64-linux" ]
  );
  names = map (file: builtins.head (builtins.match "(.*)\\.nix" file)) (builtins.attrNames (builtins.readDir folder));
  text = value: builtins.unsafeDiscardStringContext (builtins.toString value);
  look =
    name:
    let
      variant = variantOf name;
      drv = loaded.${variant.system}.${name};
      # Structured attributes keep `env` apart.
      variable = of: key: text (of.env.${key} or of.${key} or "");
      environment = of: {
        drvPath = text of.drvPath;
        preConfigure = text of.preConfigure;
        before = variable of "NIX_CFLAGS_COMPILE_BEFORE";
        after = variable of "NIX_CFLAGS_COMPILE";
        features = of.requiredSystemFeatures;
        inherit (of) system name;
      };
      inherit (drv) torch;
      inputs = torch.buildInputs;
      named = pname: builtins.filter (input: input.pname or "" == pname) inputs;
    in
    {
      package = environment drv // {
        inherit (drv) pname version meta gpuArch cpuISA cudaVersion codegenKind;
        inherit (drv) pythonImportsCheck;
        propagated = map (input: text input.drvPath) drv.propagatedBuildInputs;
        verify = if drv.tests ? verify then text drv.tests.verify.drvPath else null;
      };
      torch = environment torch // {
        arches = text torch.cudaCapabilities;
        inherit (torch) pname gpuArch cpuISA cudaVersion version;
        toolkit = torch.cudaPackages.cudaMajorMinorVersion;
      };
      nccl = map (input: text input.gencode) (named "nccl");
      magma = map (input: text input.gencode) (named "magma");
    };
in
builtins.listToAttrs (
  map (name: {
    inherit name;
    value = look name;
  }) names
)
