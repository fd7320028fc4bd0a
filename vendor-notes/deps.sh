#!/bin/bash
# deps.sh - fetch Dory's pinned third-party sources and build them as static libraries.
#
#   deps.sh build VARIANT...   make build/deps/VARIANT/{include,lib}, when not there or out of date
#   deps.sh fetch              only fetch and unpack the sources
#   deps.sh packages VARIANT   print the Debian packages that building VARIANT needs
#
# VARIANT is amd64, arm64, armv7 or riscv64 (against a musl of our own; bin/cc is their compiler driver),
# host (the machine's own libc and gcc, -O1 -g: for sanitizers, fuzzing and clang) or host-tsan (the same,
# instrumented for ThreadSanitizer).
#
# What is fetched is pinned in vendor-notes/pins; the reasons are in vendor-notes/*.md. A built variant
# carries a stamp of this script, the pins and the compiler; nothing is done when it matches.
#
# Environment:
#   DEPS      where to build                           (default: build/deps of this tree)
#   DISTDIR   where fetched files are looked for first (default: $DEPS/dist)
#   JOBS      parallel compilers                       (default: number of processors)
set -euo pipefail
export LC_ALL=C CCACHE_COMPILERCHECK=content
# Variables of the make that calls this (ARCH=arm64, CC=...) are not for the makes that it calls.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL ARCH BUILD CC CFLAGS CPPFLAGS LDFLAGS
notes=$(cd "$(dirname "$0")" && pwd)
DEPS=${DEPS:-$notes/../build/deps}
mkdir -p "$DEPS"
DEPS=$(cd "$DEPS" && pwd)
DISTDIR=${DISTDIR:-$DEPS/dist}
JOBS=${JOBS:-$(nproc)}
SRC=$DEPS/src

say() { printf 'deps: %s\n' "$*" >&2; }
die() { printf 'deps: error: %s\n' "$*" >&2; exit 1; }

# --- Debian packages ------------------------------------------------------------------------------

host_arch() { dpkg --print-architecture 2>/dev/null || uname -m; }

# Sets what depends on the variant: GNU (triplet), kernel headers, musl's name of the target.
set_variant() {
    VARIANT=$1
    local native
    case $VARIANT in
        amd64) GNU=x86_64-linux-gnu MUSL=x86_64-linux-musl native=amd64 ;;
        arm64) GNU=aarch64-linux-gnu MUSL=aarch64-linux-musl native=arm64 ;;
        armv7) GNU=arm-linux-gnueabihf MUSL=arm-linux-musleabihf native=armhf ;;
        riscv64) GNU=riscv64-linux-gnu MUSL=riscv64-linux-musl native=riscv64 ;;
        host | host-tsan) GNU='' MUSL='' native='' ;;
        *) die "unknown variant '$VARIANT' (amd64 arm64 armv7 riscv64 host host-tsan)" ;;
    esac
    # linux/ and asm/ come from Debian's own kernel headers: of the machine, or of the cross compiler.
    if [ "$native" = "$(host_arch)" ]; then
        CROSS='' KERNEL=/usr/include KERNEL_ASM=/usr/include/$GNU/asm
    else
        CROSS=$native KERNEL=/usr/$GNU/include KERNEL_ASM=/usr/$GNU/include/asm
    fi
}

packages() {
    set_variant "$1"
    echo gcc libc6-dev linux-libc-dev make xz-utils bzip2 tcl8.6
    case $VARIANT in
        host*) ;;
        *) [ -z "$CROSS" ] || echo "gcc-$GNU libc6-dev-$CROSS-cross linux-libc-dev-$CROSS-cross" ;;
    esac
}

# Installs the Debian packages among "$@" that are lacking.
need_packages() {
    local p lacking=()
    command -v dpkg-query > /dev/null || { say "not Debian: trusting that these are here: $*"; return 0; }
    for p in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2> /dev/null)" = 'ii ' ] || lacking+=("$p")
    done
    [ ${#lacking[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "these packages are lacking, and only root can install them:
    sudo apt-get install --no-install-recommends ${lacking[*]}"
    say "installing ${lacking[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=600 --no-install-recommends \
        install "${lacking[@]}" > /dev/null || die "apt-get install failed: ${lacking[*]}"
}

# --- sources --------------------------------------------------------------------------------------

# The first stanza (deb822) or line (one-line style) of the machine's sources that is Debian's main archive
# of its own release, as opposed to security updates or somebody else's archive.
own_suites() {
    local codename
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    echo "${codename:-stable}|oldstable|stable|testing|unstable|sid"
}
debian_stanza() {
    local suites f
    suites=$(own_suites)
    for f in /etc/apt/sources.list.d/*.sources; do
        [ ! -e "$f" ] || grep -v '^#' "$f" | awk -v RS= -v suites="$suites" '
            $0 ~ "(^|\n)Suites:([^\n]* )?(" suites ")( |\n|$)" && /(^|\n)Components:[^\n]* main( |\n|$)/ &&
            !/(^|\n)Enabled: *no/ { print; exit }'
    done | awk -v RS= 'NR == 1'
}
debian_line() {
    local suites
    suites=$(own_suites)
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null |
        grep -E "^deb[[:space:]].*[[:space:]]($suites)[[:space:]](.*[[:space:]])?main([[:space:]]|\$)" | head -1
}

# A private apt tree in $1 for suite $2, made from the machine's own sources, so that the mirror is the one
# this machine already uses. The system's apt is not touched.
apt_tree() {
    local d=$1 suite=$2 stanza
    mkdir -p "$d"/lists/partial "$d"/archives/partial "$d"/sources.d "$d"/dpkg
    : > "$d/dpkg/status"
    rm -f "$d"/sources.d/*
    stanza=$(debian_stanza)
    if [ -n "$stanza" ]; then
        sed -E -e 's/^Types:.*/Types: deb deb-src/' -e "s/^Suites:.*/Suites: $suite/" \
            -e 's/^Components:.*/Components: main/' -e '/^Architectures:/d' <<< "$stanza" > "$d/sources.d/main.sources"
    else
        debian_line | sed -E "s/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\1\2 $suite main/" |
            while read -r line; do printf 'deb %s\ndeb-src %s\n' "$line" "$line"; done > "$d/sources.d/main.list"
        [ -s "$d/sources.d/main.list" ] || die "no Debian archive in /etc/apt/sources.list or sources.list.d"
    fi
    cat > "$d/apt.conf" << EOC
Dir::State "$d";
Dir::State::lists "$d/lists";
Dir::State::status "$d/dpkg/status";
Dir::Cache "$d";
Dir::Cache::archives "$d/archives";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$d/sources.d";
Dir::Etc::main "/dev/null";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
EOC
}

# Prints the address of file $3 of package $2 in suite $1, as the archive's index gives it.
apt_find() {
    local suite=$1 package=$2 file=$3 tree=$DEPS/apt/$1 how=source
    case $file in *.deb) how=download ;; esac
    if [ -z "$(find "$tree/updated" -mmin -720 2> /dev/null)" ]; then
        command -v apt-get > /dev/null || return 1
        apt_tree "$tree" "$suite"
        say "reading the package index of $suite"
        APT_CONFIG=$tree/apt.conf apt-get -qq update >&2 || return 1
        touch "$tree/updated"
    fi
    APT_CONFIG=$tree/apt.conf apt-get -qq --print-uris $how "$package" 2> /dev/null |
        awk -v f="$file" '{ gsub(/\047/, "", $1) } $2 == f { print $1; exit }'
}

sha256_is() { [ "$(sha256sum < "$1")" = "$2  -" ]; }

# fetch_one NAME SUITES PACKAGE FILE SHA256
fetch_one() {
    local name=$1 suites=$2 package=$3 file=$4 sum=$5 suite uri
    if [ -e "$DISTDIR/$file" ]; then
        sha256_is "$DISTDIR/$file" "$sum" && return 0
        die "$DISTDIR/$file is not the pinned file.
    expected sha256 $sum
    found    sha256 $(sha256sum < "$DISTDIR/$file" | cut -d' ' -f1)
  Remove it to fetch it again. If the archive itself now serves another file, find out why before
  changing vendor-notes/pins."
    fi
    for suite in ${suites//,/ }; do
        uri=$(apt_find "$suite" "$package" "$file") || uri=''
        [ -n "$uri" ] || continue
        say "fetching $file ($suite)"
        rm -f "$DISTDIR/$file.part"
        if APT_CONFIG=$DEPS/apt/$suite/apt.conf /usr/lib/apt/apt-helper -qq download-file "$uri" \
            "$DISTDIR/$file.part" >&2; then
            sha256_is "$DISTDIR/$file.part" "$sum" || die "$file from $suite has sha256 $(sha256sum < "$DISTDIR/$file.part" | cut -d' ' -f1),
    but vendor-notes/pins says $sum.
  It is kept as $DISTDIR/$file.part. Do not change the pin before knowing why it differs."
            mv "$DISTDIR/$file.part" "$DISTDIR/$file"
            return 0
        fi
    done
    die "cannot fetch $file ($name): not in the archive's index of ${suites//,/, }, or the download failed.
  The archive may have moved on to a newer version. Either put that very file (sha256 $sum)
  into $DISTDIR and run again, or move the pin in vendor-notes/pins to the version it has now."
}

pins() { sed -e '/^#/d' -e '/^[[:space:]]*$/d' "$notes/pins"; }

# Unpacks one source into $SRC/NAME, whatever its top directory is called.
unpack_one() {
    local name=$1 file=$4 sum=$5
    [ "$(cat "$SRC/$name/.pin" 2> /dev/null)" != "$sum" ] || return 0
    rm -rf "${SRC:?}/$name" "$SRC/$name.new"
    mkdir -p "$SRC/$name.new"
    case $file in
        *.deb) dpkg-deb --fsys-tarfile "$DISTDIR/$file" | tar -C "$SRC/$name.new" -xf - ;;
        *) tar -C "$SRC/$name.new" --strip-components=1 --no-same-owner -xf "$DISTDIR/$file" ;;
    esac
    echo "$sum" > "$SRC/$name.new/.pin"
    mv "$SRC/$name.new" "$SRC/$name"
}

fetch() {
    mkdir -p "$DISTDIR" "$SRC"
    local line
    while read -r line; do
        # shellcheck disable=SC2086 # a pin is five words
        fetch_one $line
        # shellcheck disable=SC2086
        unpack_one $line
    done < <(pins)
}

# sqlite3.c and sqlite3.h from SQLite's own tree (needs tclsh). Made once, for all variants.
amalgamation() {
    local d=$SRC/sqlite3-amalgamation
    [ "$(cat "$d/.pin" 2> /dev/null)" != "$(cat "$SRC/sqlite3/.pin")" ] || return 0
    say "sqlite3: making the amalgamation"
    rm -rf "$d" && mkdir -p "$d"
    (cd "$d" && "$SRC/sqlite3/configure" --disable-tcl --disable-readline && make sqlite3.c sqlite3.h) \
        > "$d/log" 2>&1 || { tail -20 "$d/log" >&2; die "sqlite3: no amalgamation, see $d/log"; }
    cp "$SRC/sqlite3/.pin" "$d/.pin"
}

# --- building -------------------------------------------------------------------------------------

# Builds musl, puts the kernel's headers beside its own (as every musl cross compiler has them), and
# writes bin/cc: Debian's gcc told by a specs file to use these. It finds itself by its own path, so the
# whole directory may be moved. Static and static-pie; C only.
build_musl() {
    local b=$WORK/musl
    mkdir -p "$b" "$OUT"
    say "$VARIANT: musl"
    (cd "$b" && "$SRC/musl/configure" --prefix="$OUT" --target="$MUSL" --disable-shared --enable-wrapper=no \
        --enable-optimize=internal,string CC="$CCACHE$GNU-gcc" AR="$GNU-ar" RANLIB="$GNU-ranlib" \
        CFLAGS='-Os -ffunction-sections -fdata-sections -fPIE' &&
        make -j"$JOBS" && make install) > "$b/log" 2>&1 || { tail -20 "$b/log" >&2; die "musl failed, see $b/log"; }
    cp -rL "$KERNEL/linux" "$KERNEL/asm-generic" "$OUT/include/"
    cp -rL "$KERNEL_ASM" "$OUT/include/asm"
    [ ! -d "$KERNEL/mtd" ] || cp -rL "$KERNEL/mtd" "$OUT/include/"
    mkdir -p "$OUT/bin"
    cat > "$OUT/lib/musl.specs" << 'EOS'
%rename cpp_options old_cpp_options

*cpp_options:
-nostdinc -isystem %:getenv(DORY_SYSROOT /include) -isystem include%s %(old_cpp_options)

*cc1:
%(cc1_cpu) -nostdinc -isystem %:getenv(DORY_SYSROOT /include) -isystem include%s

*link_libgcc:
-L%:getenv(DORY_SYSROOT /lib) -L .%s

*libgcc:
libgcc.a%s %:if-exists(libgcc_eh.a%s)

*startfile:
%{static-pie:%:getenv(DORY_SYSROOT /lib/rcrt1.o);:%:getenv(DORY_SYSROOT /lib/crt1.o)} %:getenv(DORY_SYSROOT /lib/crti.o) %{static-pie:crtbeginS.o%s;:crtbeginT.o%s}

*endfile:
%{static-pie:crtendS.o%s;:crtend.o%s} %:getenv(DORY_SYSROOT /lib/crtn.o)

*link:
-nostdlib %{static-pie:-static -pie --no-dynamic-linker -z text;:-static}

*esp_link:


*esp_options:


*esp_cpp_options:


EOS
    sed -i "s,include%s,$("$GNU-gcc" -print-file-name=include),g" "$OUT/lib/musl.specs"
    cat > "$OUT/bin/cc" << EOC
#!/bin/sh
# $("$GNU-gcc" --version | head -1) for $VARIANT, with the musl beside this file: see vendor-notes/musl.md
DORY_SYSROOT=\${0%/*}/..
export DORY_SYSROOT
exec $GNU-gcc "\$@" -specs "\$DORY_SYSROOT/lib/musl.specs"
EOC
    chmod +x "$OUT/bin/cc"
}

# lib NAME 'flags' file...: queues the compilation of the files into libNAME.a. The flags are shell text.
# Objects are named by number and file, since one library may hold two files of the same name.
lib() {
    local name=$1 flags=$2 f o i=0
    shift 2
    mkdir -p "$WORK/$name"
    LIBS="$LIBS $name"
    for f in "$@"; do
        i=$((i + 1))
        o=$WORK/$name/$(printf '%03d' $i)-$(basename "$f" .c).o
        echo "$CCACHE$CC $CFLAGS $flags -w -c '$f' -o '$o'" >> "$WORK/jobs"
    done
}

# Runs the queued compilations, all libraries mixed, and makes the archives.
compile() {
    local n t0=$SECONDS
    say "$VARIANT: compiling $(wc -l < "$WORK/jobs") files with $JOBS jobs"
    # shellcheck disable=SC2016
    xargs -d '\n' -n 1 -P "$JOBS" sh -c 'eval "$0" || { echo "failed: $0" >&2; exit 255; }' < "$WORK/jobs" ||
        die "$VARIANT: a compilation failed, see above"
    for n in $LIBS; do
        rm -f "$OUT/lib/lib$n.a"
        "$AR" crsD "$OUT/lib/lib$n.a" "$WORK/$n"/*.o
    done
    say "$VARIANT: compiled in $((SECONDS - t0)) s"
}

# The licence texts, for whoever distributes the binary.
licences() {
    local name f
    mkdir -p "$OUT/licences"
    for name in musl sqlite3 mbedtls libuv libyaml zlib zstd nghttp2 llhttp seccomp mimalloc cmocka; do
        for f in LICENSE LICENSE.md License COPYING COPYRIGHT usr/share/doc/libllhttp-source/copyright; do
            # nghttp2's LICENSE only says "See COPYING"
            [ "$(stat -c %s "$SRC/$name/$f" 2> /dev/null || echo 0)" -lt 100 ] || { cp "$SRC/$name/$f" "$OUT/licences/$name" && break; }
        done
        [ -e "$OUT/licences/$name" ] || die "$name: no licence text found in its source"
    done
}

build_libs() {
    local I=$OUT/include s f
    mkdir -p "$I" "$OUT/lib"
    : > "$WORK/jobs"
    LIBS=''

    # The longest first, so that the processors end together.
    s=$SRC/sqlite3-amalgamation
    cp "$s/sqlite3.h" "$I/"
    lib sqlite3 "$O2 -DSQLITE_THREADSAFE=2 -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_DEPRECATED -DSQLITE_DQS=0 \
-DSQLITE_DEFAULT_MEMSTATUS=0 -DSQLITE_OMIT_SHARED_CACHE -DSQLITE_OMIT_PROGRESS_CALLBACK -DSQLITE_USE_ALLOCA \
-DSQLITE_OMIT_AUTHORIZATION -DSQLITE_OMIT_JSON -DSQLITE_TEMP_STORE=2 -DHAVE_FDATASYNC=1 -DHAVE_USLEEP=1" \
        "$s/sqlite3.c"

    s=$SRC/zstd/lib
    cp "$s/zstd.h" "$s/zstd_errors.h" "$I/"
    local zf='-DZSTD_DISABLE_ASM -DZSTD_LEGACY_SUPPORT=0 -DZSTD_STRIP_ERROR_STRINGS=1 -DXXH_NAMESPACE=ZSTD_'
    lib zstd "$OS $zf" "$s"/compress/*.c
    lib zstd_d "$O2 $zf" "$s"/common/*.c "$s"/decompress/*.c

    s=$SRC/mbedtls
    cp -r "$s/include/mbedtls" "$s/include/psa" "$I/"
    cat "$notes/mbedtls_user.h" >> "$I/mbedtls/mbedtls_config.h"
    lib mbedtls "$O2 -I'$I' -I'$s/library'" "$s"/library/*.c

    s=$SRC/libuv
    cp -r "$s"/include/. "$I/"
    lib uv "$OS -I'$I' -I'$s/src' -D_GNU_SOURCE -D_POSIX_C_SOURCE=200112 -D_FILE_OFFSET_BITS=64" \
        "$s"/src/{fs-poll,idna,inet,random,strscpy,strtok,thread-common,threadpool,timer,uv-common,uv-data-getter-setters,version}.c \
        "$s"/src/unix/{async,core,dl,fs,getaddrinfo,getnameinfo,loop-watcher,loop,pipe,poll,process,random-devurandom,signal,stream,tcp,thread,tty,udp,linux,procfs-exepath,random-getrandom,random-sysctl-linux,proctitle}.c

    s=$SRC/libyaml
    cp "$s/include/yaml.h" "$I/"
    lib yaml "$OS -I'$I' -DYAML_VERSION_MAJOR=0 -DYAML_VERSION_MINOR=2 -DYAML_VERSION_PATCH=5 \
-DYAML_VERSION_STRING='\"0.2.5\"' -DYAML_DECLARE_STATIC" "$s"/src/*.c

    s=$SRC/zlib
    cp "$s/zlib.h" "$s/zconf.h" "$I/"
    lib z "$O2 -D_LARGEFILE64_SOURCE=1 -DHAVE_HIDDEN -DHAVE_UNISTD_H" \
        "$s"/{adler32,crc32,deflate,infback,inffast,inflate,inftrees,trees,zutil,compress,uncompr,gzclose,gzlib,gzread,gzwrite}.c

    s=$SRC/nghttp2/lib
    mkdir -p "$I/nghttp2"
    cp "$s/includes/nghttp2/nghttp2.h" "$I/nghttp2/"
    sed 's/@PACKAGE_VERSION@/1.64.0/; s/@PACKAGE_VERSION_NUM@/0x014000/' "$s/includes/nghttp2/nghttp2ver.h.in" \
        > "$I/nghttp2/nghttp2ver.h"
    lib nghttp2 "$OS -I'$I' -DNDEBUG -DNGHTTP2_STATICLIB -DHAVE_ARPA_INET_H -DHAVE_NETINET_IN_H \
-DHAVE_CLOCK_GETTIME -DHAVE_DECL_CLOCK_MONOTONIC=1" "$s"/*.c

    s=$SRC/llhttp/usr/src/llhttp
    cp "$s/include/llhttp.h" "$I/"
    lib llhttp "$OS -I'$I'" "$s"/src/*.c

    s=$SRC/seccomp
    cp "$s/include/seccomp.h" "$s/include/seccomp-syscalls.h" "$I/"
    mkdir -p "$WORK/seccomp-config"
    echo '#define HAVE_LINUX_SECCOMP_H 1' > "$WORK/seccomp-config/configure.h"
    local seccomp_src=() # without the program of its own build
    for f in "$s"/src/*.c; do case $f in */arch-syscall-dump.c) ;; *) seccomp_src+=("$f") ;; esac; done
    lib seccomp "$OS -I'$WORK/seccomp-config' -I'$I' -I'$s/include' -I'$s/src'" \
        "${seccomp_src[@]}"

    case $VARIANT in # the sanitizers bring an allocator of their own
        host*) ;;
        *)
            s=$SRC/mimalloc
            cp "$s/include/mimalloc.h" "$I/"
            lib mimalloc "$O2 -I'$s/include' -DMI_MALLOC_OVERRIDE -DNDEBUG -ftls-model=initial-exec" "$s/src/static.c"
            ;;
    esac

    s=$SRC/cmocka
    # Its header wants four others before it, and to be told that there is a uintptr_t; say so once, here.
    { printf '#include <%s>\n' stdarg.h stddef.h setjmp.h stdint.h && echo '#define HAVE_UINTPTR_T 1' &&
        cat "$s/include/cmocka.h"; } > "$I/cmocka.h"
    mkdir -p "$WORK/cmocka-config"
    printf '%s\n' '#define HAVE_CLOCK_GETTIME 1' '#define HAVE_CLOCK_REALTIME 1' '#define HAVE_GCC_THREAD_LOCAL_STORAGE 1' \
        '#define HAVE_SIGNAL_H 1' '#define HAVE_STRUCT_TIMESPEC 1' '#define HAVE_STRINGS_H 1' '#define HAVE_UNISTD_H 1' \
        '#define HAVE_INTTYPES_H 1' '#define HAVE_STDINT_H 1' '#define HAVE_STRSIGNAL 1' \
        '#define HAVE_SNPRINTF 1' '#define HAVE_VSNPRINTF 1' '#define HAVE_SETJMP_H 1' '#define HAVE_TIME_H 1' '#define HAVE_UINTPTR_T 1' \
        > "$WORK/cmocka-config/config.h"
    lib cmocka "$OS -D_GNU_SOURCE -DHAVE_CONFIG_H -I'$WORK/cmocka-config' -I'$I' -I'$s/include'" "$s/src/cmocka.c"

    compile
    licences
    # zstd is one library for its users; it was two because of the two optimisation levels.
    "$AR" crsD "$OUT/lib/libzstd.a" "$WORK"/zstd/*.o "$WORK"/zstd_d/*.o
    rm -f "$OUT/lib/libzstd_d.a"
}

# The hash of all that the result depends on; comments do not count.
stamp_of() {
    {
        sed '/^[[:space:]]*#/d' "$notes/deps.sh" "$notes/pins"
        cat "$notes/mbedtls_user.h"
        echo "$1"
        # not there before need_packages()
        case $1 in host*) gcc --version ;; *) "$GNU-gcc" --version ;; esac 2> /dev/null | head -1 || :
    } | sha256sum | cut -d' ' -f1
}

# Builds in $DEPS/VARIANT.new and swaps at the end, so that the old one serves until the new one is whole.
build() {
    set_variant "$1"
    local t0=$SECONDS stamp final=$DEPS/$VARIANT
    exec 9> "$DEPS/lock"
    flock 9
    stamp=$(stamp_of "$VARIANT")
    if [ "$(cat "$final/stamp" 2> /dev/null)" = "$stamp" ]; then
        touch "$final/stamp"
        return 0
    fi
    # shellcheck disable=SC2046
    need_packages $(packages "$VARIANT")
    stamp=$(stamp_of "$VARIANT")
    fetch
    amalgamation
    OUT=$final.new WORK=$DEPS/work/$VARIANT
    rm -rf "$OUT" "$WORK" && mkdir -p "$OUT" "$WORK"
    CCACHE=''
    command -v ccache > /dev/null && CCACHE='ccache '
    case $VARIANT in
        host*)
            CC=gcc AR=ar OS=-O1 O2=-O1
            CFLAGS='-g -fno-omit-frame-pointer -fPIE -pipe'
            [ "$VARIANT" != host-tsan ] || CFLAGS="$CFLAGS -fsanitize=thread"
            ;;
        *)
            CC=$OUT/bin/cc AR=$GNU-gcc-ar OS=-Os O2=-O2
            CFLAGS='-fPIE -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables -fomit-frame-pointer -fstack-protector-strong -pipe'
            build_musl
            ;;
    esac
    build_libs
    rm -rf "$WORK" "$final.old"
    echo "$stamp" > "$OUT/stamp"
    touch "$OUT/built"
    [ ! -e "$final" ] || mv "$final" "$final.old"
    mv "$OUT" "$final"
    rm -rf "$final.old"
    say "$VARIANT: ready in $((SECONDS - t0)) s"
}

case ${1:-} in
    build)
        shift
        for v in "$@"; do (build "$v"); done
        ;;
    fetch) fetch ;;
    packages) packages "${2:?variant}" ;;
    *) sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "$0" ;;
esac
