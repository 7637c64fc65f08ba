#!/bin/sh
# Makes the root file system of the image:
#
#   deploy/image/rootfs.sh FOLDER VERSION
#
# It has the program, linked statically, the authorities of the system for TLS, a user without
# rights, and nothing that can be written. $GOARCH and $GOOS select the platform.
set -eu
folder=$1
version=$2
cd "$(dirname "$0")/../.."

mkdir -p "$folder/etc/ssl/certs" "$folder/etc/redisidem"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=$version" -o "$folder/redisidem" ./cmd/redisidem
cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
echo 'redisidem:x:65532:65532::/:/redisidem' >"$folder/etc/passwd"
echo 'redisidem:x:65532:' >"$folder/etc/group"
chmod -R a+rX,a-w "$folder"
