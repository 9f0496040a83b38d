"""The shipped kinds of evaluation protocols, a file each; protocols of a kind are YAML files in the folder beside."""
