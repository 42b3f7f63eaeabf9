# What Flox does with a folder of expressions: each file becomes a package, called with callPackage in an extension of the
# package set in which its own name still means what it meant below; a folder extends the set of that name, which may be
# one that was never meant to be a package set.
{ pkgs, folder, catalogs ? { } }:
let
  stem = name: builtins.substring 0 (builtins.stringLength name - 4) name;
  isNix = name: builtins.match ".*\\.nix" name != null;
  overlayOf =
    path: final: prev:
    builtins.listToAttrs (
      builtins.concatMap (
        name:
        let
          entry = path + "/${name}";
          called = key: file: {
            name = key;
            value = (final.newScope { ${key} = prev.${key} or (throw "${key} asks for itself"); }) file { };
          };
        in
        if (builtins.readDir path).${name} != "directory" then
          (if isNix name then [ (called (stem name) entry) ] else [ ])
        else if builtins.pathExists (entry + "/default.nix") then
          [ (called name (entry + "/default.nix")) ]
        else
          [
            {
              inherit name;
              value =
                let
                  set = prev.${name} or (final // { extend = overlay: overlay final { }; });
                in
                set // overlayOf entry final set;
            }
          ]
      ) (builtins.attrNames (builtins.readDir path))
    );
in
pkgs.extend (final: prev: { inherit catalogs; } // overlayOf folder final prev)
