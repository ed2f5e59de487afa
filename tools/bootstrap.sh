# Sourced by ./bench and ./test: from a bare system to .venv with vbench in it. POSIX sh.
# Expects $root, the repository, from its caller. All messages go to standard error: standard output is vbench's.
# shellcheck shell=sh disable=SC2154

say() { echo "$*" >&2; }

# Of the user's settings only those count that say where packages come from. Others would send
# packages elsewhere (PIP_USER, PIP_TARGET) or let Python not find what it should (PYTHONHOME,
# PYTHONSAFEPATH).
clean_environment() {
    for variable in $(env | sed -nE 's/^((PYTHON|PIP_)[A-Z_0-9]*)=.*/\1/p'); do
        case $variable in
        PIP_*INDEX* | PIP_FIND_LINKS | PIP_CONSTRAINT | PIP_CONFIG_FILE | PIP_*CACHE_DIR) ;;
        PIP_PROXY | PIP_*CERT | PIP_TRUSTED_HOST | PIP_*TIMEOUT | PIP_RETRIES | PIP_KEYRING*) ;;
        PIP_* | PYTHON*) unset "$variable" ;;
        esac
    done
    # An empty HOME is none: then the passwd entry counts. pip takes a folder named ~ for the home
    # of a user who has no entry.
    if [ -z "${HOME-}" ]; then
        unset HOME
        export PIP_NO_CACHE_DIR=1
    fi
}

# An interpreter of Python 3.11 or later; the system's own first. One that cannot make virtual
# environments is the last choice: on Debian, setup installs what it lacks.
find_python() {
    for wanted in 'import ensurepip, venv' 'pass'; do
        for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
            if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c \
                "import sys; $wanted; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
                command -v "$candidate"
                return 0
            fi
        done
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        say "neither root nor sudo here; as root, run: $*"
        return 3
    fi
}

# A bare Debian has no Python at all, and vbench's own setup is written in it.
install_python() {
    if command -v python3 >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
        say "vbench needs Python 3.11 or later; please install it, then try again"
        return 3
    fi
    say "installing python3"
    if ! ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q update >&2 || return
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q install \
        --no-install-recommends python3 >&2
}

# bootstrap NAME INSTALL-ARGUMENT [SETUP-OPTION...]: system packages, .venv, and in it what pip
# is told to install. A stamp per NAME spares pip, which takes seconds to find nothing to do.
bootstrap() {
    name=$1 wanted=$2
    shift 2
    clean_environment
    python=$(find_python) || {
        install_python || return
        python=$(find_python) || { say "no Python 3.11 or later after all"; return 3; }
    }
    (cd "$root" && "$python" -m vbench.system "$@") >&2 || return

    venv=$root/.venv
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        say "making $venv"
        "$python" -m venv --clear "$venv" >&2 || return
    fi
    stamp=$venv/.installed-$name
    now=$(cksum "$root/pyproject.toml") # with its path: a clone may have been moved
    if [ "$(cat "$stamp" 2>/dev/null)" != "$now" ]; then
        say "installing vbench and its Python packages into $venv"
        (cd "$root" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-user \
            --editable "$wanted") >&2 || return
        echo "$now" >"$stamp"
    fi
}
