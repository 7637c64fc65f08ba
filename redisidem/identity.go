package redisidem

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// identity is where the record of one key lives. Everything in it is derived from namespace, scope and key value.
type identity struct {
	name         name
	scope, value string
	digest       string // what names the key in Redis, in events and in logs
	record, lock string // the two keys in Redis, in one cluster slot
}

// name is a key's digest in bytes: what names it in the process.
type name [24]byte

// nameLength is the length of a name as text.
const nameLength = 32

// shardBits makes 1024 slot groups for a namespace to spread over. It is fixed: another number would look for existing
// records in other places.
const (
	shardBits = 10
	shards    = 1 << shardBits
)

const hexDigits = "0123456789abcdef"

// digestOf hashes what a key is called. It is over length-prefixed parts, so that no byte of a scope or a key can reach
// another record, a slot tag or a pattern.
func digestOf(scope, value string) [sha256.Size]byte {
	var space [512]byte
	b := append(space[:0], "redisidem/key/1"...)
	b = appendPart(b, scope)
	b = appendPart(b, value)
	return sha256.Sum256(b)
}

// identify derives the place of a key from its digest. 192 bits are kept: even somebody who chooses keys freely cannot
// find one that collides with another scope's.
func identify(namespace, scope, value string, sum [sha256.Size]byte) identity {
	shard := binary.BigEndian.Uint16(sum[24:]) >> (16 - shardBits)
	var space [512]byte
	n := append(append(space[:0], namespace...), ":{"...)
	n = append(n, hexDigits[shard>>8], hexDigits[shard>>4&15], hexDigits[shard&15])
	n = append(n, "}:"...)
	begin := len(n)
	n = base64.RawURLEncoding.AppendEncode(n, sum[:len(name{})])
	end := len(n)
	lock := string(append(n, ":lock"...))
	return identity{name: name(sum[:len(name{})]), scope: scope, value: value, digest: lock[begin:end], record: lock[:end], lock: lock}
}

// neighbour returns the name of another Redis key in the cluster slot of a record.
func (id identity) neighbour(name string) string { return id.record[:len(id.record)-nameLength] + name }

// shardPrefix opens the names of all Redis keys in a shard.
func shardPrefix(namespace string, shard int) string {
	return fmt.Sprintf("%s:{%03x}:", namespace, shard)
}

// adopt completes the identity of a record of which only the place was known.
func adopt(id identity, pairs []string, namespace string) (identity, error) {
	var scope, value string
	for i := 0; i+1 < len(pairs); i += 2 {
		switch pairs[i] {
		case fieldScope:
			scope = pairs[i+1]
		case fieldValue:
			value = pairs[i+1]
		}
	}
	full := identify(namespace, scope, value, digestOf(scope, value))
	if full.record != id.record {
		return id, damaged("the record is another key's")
	}
	return full, nil
}

// placed returns the identity of a record of which only the place is known.
func placed(prefix, digest string) (id identity, ok bool) {
	n, ok := nameOf(digest)
	return identity{name: n, digest: digest, record: prefix + digest, lock: prefix + digest + ":lock"}, ok
}

// appendPart appends a part of something to be hashed behind its length, so that neighbours cannot run together.
func appendPart[T string | []byte](b []byte, part T) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
	return append(b, part...)
}
