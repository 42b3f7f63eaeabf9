# mkDerivation with overrideAttrs, passthru, meta, env and structured attributes, and its refusals; phases and the
# compiler wrapper are in setup.sh.
{ lib, system, config, cc, inputs }:
let
  # What a derivation's environment does not hold.
  kept = [ "passthru" "meta" "env" "isPythonPackage" ];

  refusal =
    name: meta:
    if meta.broken or false && !config.allowBroken then
      "Package ‘${name}’ is marked as broken, refusing to evaluate."
    else if meta ? platforms && !builtins.elem system meta.platforms then
      "Package ‘${name}’ is not available on the requested hostPlatform: ${system}"
    else if meta.unfree or false && !config.allowUnfree then
      "Package ‘${name}’ has an unfree license, refusing to evaluate."
    else
      null;

  make =
    overrideAttrs: attrs:
    let
      name = attrs.name or "${attrs.pname}-${attrs.version}";
      env = attrs.env or { };
      structured = attrs.__structuredAttrs or false;
      both = builtins.attrNames (builtins.intersectAttrs env attrs);
      reason = refusal name (attrs.meta or { });
      drv = derivation (
        builtins.removeAttrs attrs kept
        # Structured attributes are variables of the builder's shell, and `env` alone is its environment.
        // (if structured then { inherit env; } else env)
        // {
          inherit name system;
          builder = "/bin/bash";
          args = [ "-e" ./builder.sh ];
          setup = ./setup.sh;
          ccWrapper = ./cc-wrapper.sh;
          hostCc = cc;
          patchelf = if inputs == null then "" else inputs.patchelf;
        }
      );
    in
    if both != [ ] then
      throw "The ‘env’ attribute set cannot contain any attributes passed to derivation. The following attributes are overlapping: ${builtins.concatStringsSep ", " both}"
    else if attrs.isPythonPackage or false && !(attrs ? passthru.pythonModule) then
      throw "${name}: overrideAttrs has lost the passthru of a Python package"
    else
      lib.guard (if reason == null then true else throw reason) (
        drv // (attrs.passthru or { }) // {
          inherit overrideAttrs;
          meta = { broken = false; } // (attrs.meta or { });
          passthru = attrs.passthru or { };
        }
      )
      // builtins.intersectAttrs { pname = 0; version = 0; } attrs;

  mkDerivation =
    given:
    let
      attrsOf = if builtins.isFunction given then given else (_: given);
      attrs = attrsOf (attrs // { inherit finalPackage; });
      overrideAttrs =
        change:
        mkDerivation (
          final:
          let
            prev = attrsOf final;
            once = if builtins.isFunction change then change prev else change;
          in
          prev // (if builtins.isFunction once then change final prev else once)
        );
      finalPackage = make overrideAttrs attrs;
    in
    finalPackage;
in
{
  inherit mkDerivation;
  cc = {
    name = cc;
    cc.lib = mkDerivation {
      pname = "${cc}-lib";
      version = "host";
      buildCommand = "mkdir -p $out/lib";
    };
  };
  hostPlatform = {
    inherit system;
    isAarch64 = system == "aarch64-linux";
    isLinux = true;
  };
}
