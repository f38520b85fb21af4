"""One module a subcommand of `autotag`: each holds a thin click command named ``command`` over a library function."""
