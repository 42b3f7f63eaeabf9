# What a PyTorch declares of itself, and in what it differs from a variant. All are values; nothing is thrown here.
{ matrix ? builtins.fromJSON (builtins.readFile ./matrix.json) }:
let
  # "sm_90", "sm90", "9.0a" and "12.0" -> "9.0", "9.0", "9.0a", "12.0": the spellings that are in use.
  capability =
    text:
    let
      digits = builtins.match "(sm_|sm|compute_)?([0-9]+)([0-9])([af]?)" text;
      at = builtins.elemAt digits;
    in
    if digits == null then text else "${at 1}.${at 2}${at 3}";
  architectures =
    value: if builtins.isList value then builtins.concatStringsSep ";" (map capability value) else capability value;
  first = count: list: builtins.genList (builtins.elemAt list) (if builtins.length list < count then builtins.length list else count);
  # "2.12.0+cu128" -> "2.12".
  series = version: builtins.concatStringsSep "." (first 2 (builtins.splitVersion version));
  # "212" -> "2.12": how names write a series.
  dotted =
    digits:
    if digits == null || digits == "" then
      null
    else
      "${builtins.substring 0 1 digits}.${builtins.substring 1 (builtins.stringLength digits) digits}";
in
rec {
  inherit capability series;

  # A companion's name taken apart; null where it is not of that form.
  named =
    name:
    let
      parts = builtins.match "pytorch([0-9]*)-python([0-9]+)-([a-z0-9_]+)(-(sm[0-9]+))?-([a-z0-9_]+)" name;
      part = builtins.elemAt parts;
    in
    if parts == null then
      null
    else
      {
        series = dotted (part 0);
        python = part 1;
        track = part 2;
        sm = part 4;
        isa = part 5;
      };

  # Each value is null where the PyTorch says nothing of it; "none" stands for no GPU and no CUDA.
  declared =
    torch:
    let
      name = torch.pname or (builtins.parseDrvName (torch.name or "")).name;
      found = named name;
      parts = if found == null then { series = null; python = null; track = null; sm = null; isa = null; } else found;
    in
    {
      inherit name;
      sm =
        if torch ? gpuArch then
          (if torch.gpuArch == null then "none" else architectures torch.gpuArch)
        else if parts.sm != null then
          capability parts.sm
        else if parts.track == "cpu" then
          "none"
        else
          null;
      isa = torch.cpuISA or parts.isa;
      cuda =
        if torch ? cudaSupport && !torch.cudaSupport then
          "none"
        else if torch ? cudaPackages.cudaMajorMinorVersion && torch.cudaSupport or true then
          torch.cudaPackages.cudaMajorMinorVersion
        else if torch ? cudaVersion then
          (if torch.cudaVersion == null then "none" else torch.cudaVersion)
        else if parts.track == null then
          null
        else if parts.track == "cpu" then
          "none"
        else
          matrix.tracks.${parts.track}.cuda or null;
      python =
        torch.pythonModule.pythonVersion
          or (if parts.python == null then null else matrix.pythons.${parts.python} or parts.python);
      series = if torch ? version then series torch.version else parts.series;
    };

  # What the variant asks for: per word, the values that will do. A GPU's own architecture, or the one it is served by.
  wanted =
    variant: torch:
    {
      sm =
        if variant.codegen == null then
          [ "none" ]
        else
          [ variant.codegen.archList ]
          ++ (if variant.gpu.capability == variant.codegen.archList then [ ] else [ variant.gpu.capability ]);
      isa = [ variant.isa ];
      cuda = [ (if variant.cuda == null then "none" else variant.cuda) ];
      python = [ variant.pythonVersion ];
    }
    # What the PyTorch's own name says of its release must hold too.
    // (
      let
        name = named torch.name;
      in
      if name == null || name.series == null then { } else { series = [ name.series ]; }
    );

  # The differences as sentences that name both sides; `undeclared` are the words of which the PyTorch says nothing.
  compare =
    variant: torch:
    let
      has = declared torch;
      wants = wanted variant has;
      words = {
        sm = "GPU architecture";
        isa = "CPU ISA";
        cuda = "CUDA version";
        python = "Python";
        series = "release";
      };
      keys = builtins.attrNames wants;
      differ = builtins.filter (key: has.${key} != null && !builtins.elem has.${key} wants.${key}) keys;
    in
    {
      inherit (has) name;
      differences = map (
        key:
        "${words.${key}}: ${if key == "series" then "its name" else variant.name} has ${builtins.concatStringsSep " or " wants.${key}}, ${has.name} has ${has.${key}}"
      ) differ;
      undeclared = map (key: words.${key}) (builtins.filter (key: has.${key} == null) keys);
    };

  # Whether a TorchVision and a torch belong together: { known, fits, belongs }. The release series decides. TorchVision
  # is compiled against that very torch here, so patch releases that differ, which is how nixpkgs often has them, are no
  # question of the ABI. `known` is false for a TorchVision that is in no row of the table.
  pair =
    torchvision: torch:
    let
      rows = builtins.filter (known: series known == series torchvision) (builtins.attrNames matrix.releases);
      row = matrix.releases.${builtins.head rows};
      least = series row.torch;
    in
    if rows == [ ] then
      {
        known = false;
        fits = true;
        belongs = null;
      }
    else
      {
        known = true;
        fits = if row.stableAbi then builtins.compareVersions (series torch) least >= 0 else series torch == least;
        belongs = if row.stableAbi then "${least} or newer" else least;
      };
}
