# nixpkgs-unstable of October 2026: structured attributes, so that `env` alone is the environment; Python 3.14 by default.
import ../../nixpkgs {
  path = ./.;
  era = {
    torch = "2.13.0";
    torchvision = "0.28.0";
    python = "3.14";
    pythons = [ "3.11" "3.12" "3.13" "3.14" ];
    toolkits = [ "12.6" "12.8" "12.9" "13.0" "13.1" "13.2" "13.3" "13.4" ];
    removedToolkits = [ "12.0" "12.1" "12.2" "12.3" "12.4" "12.5" ];
    torchCuda = [ "11" "12" "13" ];
    finalAttrs = true;
    structuredAttrs = true;
    aliasesMustAgree = false;
  };
}
