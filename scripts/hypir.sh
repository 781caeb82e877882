#!/usr/bin/env bash
# One script for everything, in a clone. uv makes the environment; everything else is `hypir` in it.
# usage: scripts/hypir.sh setup|test|run|benchmark|web|clean|status|help [ARGUMENTS…]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

say() { printf 'hypir.sh: %s\n' "$*" >&2; }

help() {
    cat <<'TEXT'
usage: scripts/hypir.sh VERB [ARGUMENTS…]

  setup      make the environment (.venv) with uv
  test       run the tests; arguments go to pytest
  run        restore pictures: hypir restore ARGUMENTS…
  benchmark  measure this machine: hypir bench ARGUMENTS…
  web        the page: hypir web ARGUMENTS…
  clean      remove what tests and demos leave in this folder; the environment stays
  status     what is installed and what is missing: hypir doctor
  help       this text

Paths are those of the folder you are in. Debugging: HYPIR_DEBUG=1 logs and checks every stage, HYPIR_LOG_LEVEL=INFO
says more, HYPIR_LITE=1 runs on tiny random networks, without weights.
TEXT
}

uv_or_stop() {
    if ! command -v uv >/dev/null 2>&1; then
        say "expected uv on the path, and it is not there; install it: pip install uv"
        exit 1
    fi
}

in_environment() {
    uv_or_stop
    uv run --project "$root" "$@"
}

verb=${1:-help}
[ $# -eq 0 ] || shift
case "$verb" in
    setup)
        uv_or_stop
        uv sync --project "$root" --all-extras "$@"
        ;;
    test) cd "$root" && in_environment pytest "$@" ;;
    run) in_environment hypir restore "$@" ;;
    benchmark) in_environment hypir bench "$@" ;;
    web) in_environment hypir web "$@" ;;
    clean)
        cd "$root"
        rm -rf .pytest_cache .ruff_cache .hypothesis build dist demo
        find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
        ;;
    status) in_environment hypir doctor "$@" ;;
    help | -h | --help) help ;;
    *)
        say "unknown verb '$verb'; expected setup, test, run, benchmark, web, clean, status or help"
        exit 2
        ;;
esac
