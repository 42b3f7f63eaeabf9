# What a PyTorch declares of itself, and in what it differs from a variant. Both are values; nothing is thrown here.
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
  series = version: builtins.concatStringsSep "." (first 2 (builtins.splitVersion version));
  first = count: list: builtins.genList (builtins.elemAt list) (if builtins.length list < count then builtins.length list else count);
  release = version: builtins.head (builtins.match "([0-9.]+).*" version);
in
rec {
  inherit capability;

  # Each value is null where the PyTorch says nothing of it; "none" stands for no GPU and no CUDA.
  declared =
    torch:
    let
      name = torch.pname or (builtins.parseDrvName (torch.name or "")).name;
      parts = builtins.match "pytorch-python([0-9]+)-([a-z0-9_]+)(-(sm[0-9]+))?-([a-z0-9_]+)" name;
      part = if parts == null then (_: null) else builtins.elemAt parts;
      track = part 1;
    in
    {
      inherit name;
      sm =
        if torch ? gpuArch then
          (if torch.gpuArch == null then "none" else architectures torch.gpuArch)
        else if part 3 != null then
          capability (part 3)
        else if track == "cpu" then
          "none"
        else
          null;
      isa = torch.cpuISA or (part 4);
      cuda =
        if torch ? cudaSupport && !torch.cudaSupport then
          "none"
        else if torch ? cudaPackages.cudaMajorMinorVersion && torch.cudaSupport or true then
          torch.cudaPackages.cudaMajorMinorVersion
        else if torch ? cudaVersion then
          (if torch.cudaVersion == null then "none" else torch.cudaVersion)
        else if track == null then
          null
        else if track == "cpu" then
          "none"
        else
          matrix.tracks.${track}.cuda or null;
      python =
        torch.pythonModule.pythonVersion
          or (if part 0 == null then null else matrix.pythons.${part 0} or part 0);
    };

  # What the variant asks for: per word, the values that will do. A GPU's own architecture, or the one it is served by.
  wanted = variant: {
    sm =
      if variant.codegen == null then
        [ "none" ]
      else
        [ variant.codegen.archList ]
        ++ (if variant.gpu.capability == variant.codegen.archList then [ ] else [ variant.gpu.capability ]);
    isa = [ variant.isa ];
    cuda = [ (if variant.cuda == null then "none" else variant.cuda) ];
    python = [ variant.pythonVersion ];
  };

  # The differences as sentences that name both sides; `undeclared` are the words of which the PyTorch says nothing.
  compare =
    variant: torch:
    let
      has = declared torch;
      wants = wanted variant;
      words = {
        sm = "GPU architecture";
        isa = "CPU ISA";
        cuda = "CUDA version";
        python = "Python";
      };
      keys = builtins.attrNames words;
      differ = builtins.filter (key: has.${key} != null && !builtins.elem has.${key} wants.${key}) keys;
    in
    {
      inherit (has) name;
      differences = map (
        key: "${words.${key}}: ${variant.name} has ${builtins.concatStringsSep " or " wants.${key}}, ${has.name} has ${has.${key}}"
      ) differ;
      undeclared = map (key: words.${key}) (builtins.filter (key: has.${key} == null) keys);
    };

  # null where torchvision and torch are of one release, else the sentence. A version without a row of its own goes by
  # its series: 0.22.0 belongs to 2.7.0, since 0.22.1 belongs to 2.7.1.
  pair =
    torchvision: torch:
    let
      rows = matrix.releases;
      is = release torchvision;
      alike = builtins.filter (known: series known == series is) (builtins.attrNames rows);
      row = if rows ? ${is} then rows.${is} else if alike == [ ] then null else rows.${builtins.head alike};
      patch = version: builtins.elemAt (builtins.splitVersion version ++ [ "0" "0" ]) 2;
      belongs = if rows ? ${is} then row.torch else "${series row.torch}.${patch is}";
      fits =
        if row.stableAbi then
          builtins.compareVersions (release torch) row.torch >= 0
        else
          release torch == belongs;
    in
    if row == null then
      "TorchVision ${torchvision} is in no row of the table of releases. Next: add it to src/build_torchvision/facts/releases.toml and type `build-torchvision recipes`."
    else if fits then
      null
    else
      "release: TorchVision ${torchvision} belongs to torch ${if row.stableAbi then row.torch + " or newer" else belongs}, and this torch is ${torch}";
}
