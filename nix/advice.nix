# How messages say what to do next.
{
  # An argument of the builder: its name and its value, in Nix or a text.
  argument = name: value: "`nix-build --arg ${name} '${value}'`, or `${name} = ${value};` in a recipe";
  text = name: value: "`nix-build --argstr ${name} ${value}`, or `${name} = \"${value}\";` in a recipe";
  # One of several.
  either = builtins.concatStringsSep ";\n  or ";
}
