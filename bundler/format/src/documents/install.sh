#!/bin/sh
# Runs the installer that is packed in a Ferry bundle.
#
#   tar -xf NAME-RELEASE.ferry install.sh
#   sh install.sh [NAME-RELEASE.ferry] [options of `ferry-installer install`]
#   sh install.sh preflight|verify|install [NAME-RELEASE.ferry] [options]
#   sh install.sh --resume                      after a start of the machine
#   sh install.sh probe|status|audit|log|rollback|uninstall|... [options]
#
# Without a bundle, the only *.ferry file beside this script is taken.
set -eu

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit 1
}

# Which command, and whether it speaks about a bundle.
command=install
speaks=yes
case ${1-} in
    install | preflight | verify)
        command=$1
        shift
        ;;
    probe | inventory | status | rollback | uninstall | audit | gc | log | trust | support-bundle)
        command=$1
        speaks=no
        shift
        ;;
esac
# What goes on knows its bundle.
for word in "$@"; do
    [ "$word" != --resume ] || speaks=no
done

bundle=
if [ "$speaks" = yes ]; then
    case ${1-} in
        -* | '') ;;
        *)
            bundle=$1
            shift
            ;;
    esac
fi
if [ -z "$bundle" ]; then
    here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
    for candidate in "$here"/*.ferry; do
        [ -f "$candidate" ] || continue
        [ -z "$bundle" ] || fail "several bundles here; name one (此处有多个包，请指定一个): sh install.sh FILE"
        bundle=$candidate
        # Whose installer it is does not matter where no bundle is spoken about; the first volume has one.
        [ "$speaks" = yes ] || break
    done
    [ -n "$bundle" ] || fail 'no bundle here; name one (此处没有包，请指定): sh install.sh FILE'
fi
[ -f "$bundle" ] || fail "no such file (文件不存在): $bundle"
# tar would take a name with a colon for one on another machine.
case $bundle in
    /*) ;;
    *) bundle=./$bundle ;;
esac

machine=$(uname -m)
case $machine in
    amd64) machine=x86_64 ;;
    arm64) machine=aarch64 ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/ferry.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
tar -xf "$bundle" -C "$work" "installer/$machine" ||
    fail "this bundle has no installer for $machine (此包没有适用于 $machine 的安装程序)"
chmod 700 "$work/installer/$machine"
[ "$speaks" = no ] || set -- "$bundle" "$@"
status=0
"$work/installer/$machine" "$command" "$@" || status=$?
if [ "$status" -eq 126 ]; then
    fail "cannot run programs in $work; set TMPDIR to a folder where that is allowed (无法在该目录运行程序，请将 TMPDIR 设为允许执行的目录)"
fi
exit "$status"
