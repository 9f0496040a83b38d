"""Which plugins there are: entry points, one-file plugins, stzoo.yaml."""
