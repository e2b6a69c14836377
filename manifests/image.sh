#!/usr/bin/env bash
# manifests/image.sh BINARY ARCHIVE
#
# Writes an OCI archive that holds one static sidecar and nothing else, without
# a container runtime: the format is a tar of small JSON files and one layer.
# The entry point and the user are those of upstream's image, so that a
# Deployment needs no other change. The same binary gives the same bytes.
set -euo pipefail

binary=$1 archive=$2
name=$(basename "$binary")
if readelf -l "$binary" 2>/dev/null | grep -q 'Requesting program interpreter'; then
    echo "$binary is not static: an empty image has no loader to start it" >&2
    exit 1
fi
version=$(cargo pkgid -p volwright)
version=${version##*[#@]}
case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) arch=$(uname -m) ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root" "$work/oci/blobs/sha256"

pack() { # FOLDER: a tar on stdout that depends on names and contents only
    (cd "$1" && tar --create --format=ustar --sort=name --mtime="@${SOURCE_DATE_EPOCH:-0}" \
        --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' -- *)
}
blob() { # FILE: files it under its digest, prints digest and size as JSON
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    printf '"digest":"sha256:%s","size":%d' "$digest" "$(stat -c %s "$1")"
    mv "$1" "$work/oci/blobs/sha256/$digest"
}

install -m 0755 "$binary" "$work/root/$name"
pack "$work/root" >"$work/layer"
diff=sha256:$(sha256sum "$work/layer" | cut -d' ' -f1)
layer=$(blob "$work/layer")

cat >"$work/config" <<JSON
{"architecture":"$arch","os":"linux",
 "config":{"Entrypoint":["/$name"],"User":"0","WorkingDir":"/",
  "Labels":{"org.opencontainers.image.title":"$name","org.opencontainers.image.version":"$version",
   "org.opencontainers.image.licenses":"Apache-2.0"}},
 "rootfs":{"type":"layers","diff_ids":["$diff"]}}
JSON
config=$(blob "$work/config")

cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "config":{"mediaType":"application/vnd.oci.image.config.v1+json",$config},
 "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar",$layer}]}
JSON
manifest=$(blob "$work/manifest")

# Two names: the tag as the specification has it, and the whole reference that
# containerd (so also kind and k3s) takes on import.
cat >"$work/oci/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",
 "manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",$manifest,
  "platform":{"architecture":"$arch","os":"linux"},
  "annotations":{"org.opencontainers.image.ref.name":"$version",
   "io.containerd.image.name":"docker.io/volwright/$name:$version"}}]}
JSON
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"

mkdir -p "$(dirname "$archive")"
pack "$work/oci" >"$archive.part"
mv "$archive.part" "$archive"
echo "$archive"
