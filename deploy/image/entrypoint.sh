#!/bin/sh
# What a container of the project's image does with its arguments. Beam starts a worker with --id=... and more (its DOCKER
# environment, `autotag preprocess --image`); everything else is a command line of autotag's.
set -eu
case "${1:-}" in
    --id | --id=*) set -- autotag-beam-worker "$@" ;;
    *) set -- autotag "$@" ;;
esac
# tini passes signals on: Python as process 1 would not end on SIGTERM.
exec tini -g -- "$@"
