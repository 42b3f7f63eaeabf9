# The few functions of nixpkgs' library that a package set needs, with the same names and the same behaviour.
rec {
  fix = f: let x = f x; in x;
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  optionalAttrs = condition: attrs: if condition then attrs else { };
  filterAttrs =
    holds: attrs:
    builtins.removeAttrs attrs (builtins.filter (name: !holds name attrs.${name}) (builtins.attrNames attrs));
  optionalString = condition: text: if condition then text else "";
  subtractLists = remove: builtins.filter (entry: !(builtins.elem entry remove));
  intersectLists = keep: builtins.filter (entry: builtins.elem entry keep);

  last = list: builtins.elemAt list (builtins.length list - 1);

  # Overlays: each gets the finished set and the one below it.
  applyOverlays =
    base: overlays: fix (final: builtins.foldl' (prev: overlay: prev // overlay final prev) (base final) overlays);

  # `f args` with `.override`; what overrideAttrs makes of it can be overridden still.
  makeOverridable =
    f: args:
    let
      result = f args;
      changed = new: args // (if builtins.isFunction new then new args else new);
    in
    if builtins.isAttrs result then
      result
      // {
        override = new: makeOverridable f (changed new);
      }
      // (
        if result ? overrideAttrs then
          { overrideAttrs = change: makeOverridable (some: (f some).overrideAttrs change) args; }
        else
          { }
      )
    else
      result;

  # Fills a function's arguments from `scope`; what is neither there nor given nor optional is an error.
  callPackageWith =
    scope: given: extra:
    let
      f = if builtins.isFunction given then given else import given;
      wanted = builtins.functionArgs f;
      found = builtins.intersectAttrs wanted scope // extra;
      missing = builtins.filter (name: !wanted.${name} && !(found ? ${name})) (builtins.attrNames wanted);
    in
    if missing == [ ] then
      makeOverridable f found
    else
      throw "callPackage: the argument ${builtins.head missing} is not in the package set";

  # A derivation whose derivation paths are only given out where `condition` holds.
  guard =
    condition: drv:
    drv
    // {
      drvPath = assert condition; drv.drvPath;
      outPath = assert condition; drv.outPath;
    };
}
