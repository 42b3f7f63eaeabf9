# nixpkgs-unstable of June 2026: patch releases of torch and torchvision that PyPI does not pair.
import ../../nixpkgs {
  path = ./.;
  era = {
    torch = "2.12.0";
    torchvision = "0.27.1";
    python = "3.13";
    pythons = [ "3.11" "3.12" "3.13" "3.14" ];
    toolkits = [ "12.6" "12.8" "12.9" "13.0" "13.1" "13.2" ];
    removedToolkits = [ "12.0" "12.1" "12.2" "12.3" "12.4" "12.5" ];
    torchCuda = [ "11" "12" "13" ];
    finalAttrs = true;
    structuredAttrs = true;
    aliasesMustAgree = false;
  };
}
