#!/usr/bin/env bash
# Installs what the build needs, where that is allowed (apt, as root), and says so; else names it and stops.
# With `tests`: what the stories on Apache Kafka, PostgreSQL and in a browser need too, unless WIKI_TEST_KAFKA names a
# cluster, WIKI_TEST_POSTGRES a server and WIKI_TEST_BROWSER a Chromium.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null 2>&1 || [[ " ${missing[*]-} " == *" $2 "* ]] || missing+=("$2"); }

need cc gcc
need c++ g++
need make make
need perl perl
need pkg-config pkg-config
# librdkafka links the distribution's OpenSSL.
if command -v pkg-config >/dev/null 2>&1; then
    pkg-config --exists openssl || missing+=(libssl-dev)
else
    missing+=(libssl-dev)
fi

if [[ ${1:-} == tests && -z ${WIKI_TEST_KAFKA:-} ]]; then
    need java openjdk-17-jre-headless
    need keytool openjdk-17-jre-headless
    need mvn maven
    need kcat kcat
fi

if [[ ${1:-} == tests && -z ${WIKI_TEST_POSTGRES:-} ]]; then
    # Debian keeps the server's programs off the path.
    PATH=$PATH:$(printf '%s:' /usr/lib/postgresql/*/bin) need initdb postgresql
    need psql postgresql-client
fi

if [[ ${1:-} == tests ]]; then
    need node nodejs
    need npm npm
    if [[ -z ${WIKI_TEST_BROWSER:-} ]] && ! command -v chromium-browser google-chrome >/dev/null 2>&1; then
        need chromium chromium
    fi
fi

if ((${#missing[@]})); then
    if command -v apt-get >/dev/null 2>&1 && [[ $(id -u) == 0 ]]; then
        echo "setup: installing ${missing[*]}"
        if [[ " ${missing[*]} " == *" postgresql "* && ! -e /etc/postgresql-common ]]; then
            # The tests start servers of their own: Debian's package need not start one.
            mkdir -p /etc/postgresql-common
            echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
        fi
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "setup: these are needed and not here: ${missing[*]}; install them with your package manager (Debian's names), then run this again" >&2
        exit 1
    fi
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: the build needs Rust, with the version in rust-toolchain.toml; install it from https://rustup.rs, then run this again" >&2
    exit 1
fi

# promtool comes in a package that would start a server: only the tool is taken out of it.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wikipedia-events
if [[ ${1:-} == tests ]] && ! command -v promtool >/dev/null 2>&1 && [[ ! -x $cache/promtool ]]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "setup: the tests of the alerts need promtool; install Prometheus's tools, then run this again" >&2
        exit 1
    fi
    echo "setup: fetching promtool"
    mkdir -p "$cache"
    (
        folder=$(mktemp -d)
        trap 'rm -rf "$folder"' EXIT
        cd "$folder"
        # The package lists of a fresh machine are empty or old.
        apt-get download -qq prometheus >/dev/null 2>&1 \
            || { [[ $(id -u) == 0 ]] && apt-get update -qq && apt-get download -qq prometheus >/dev/null; } \
            || { echo "setup: Debian's package prometheus cannot be fetched; install promtool, then run this again" >&2; exit 1; }
        dpkg-deb -x prometheus_*.deb .
        mv usr/bin/promtool "$cache/promtool"
    )
fi

# What drives the browser, and what judges the page's accessibility: for the tests only, beside the checkout.
modules=$cache/browser
if [[ ${1:-} == tests && ! -d $modules/node_modules/axe-core ]]; then
    echo "setup: fetching playwright-core and axe-core"
    mkdir -p "$modules"
    npm install --silent --no-fund --no-audit --prefix "$modules" playwright-core@1.65.1 axe-core@4.14.1 >/dev/null \
        || { echo "setup: playwright-core and axe-core cannot be fetched from npm's registry; put them into $modules, then run this again" >&2; exit 1; }
fi
