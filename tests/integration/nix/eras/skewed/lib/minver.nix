# The oldest Nix that evaluates this set. nixpkgs' own is 2.18.
"2.8"
