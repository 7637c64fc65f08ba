package protocol

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
)

// Identity names one idempotency key and its record in Redis. Everything in it is derived from
// namespace, scope and value.
type Identity struct {
	Name         Name
	Scope, Value string
	Digest       string // names the key in Redis, in events and in logs
	Record, Lock string // the two keys in Redis, in one cluster slot
}

// Name is a key's digest in bytes, which names the key in this process.
type Name [24]byte

// nameLength is the length of a name as text.
const nameLength = 32

// shardBits spreads a namespace over 1024 slot groups. It is fixed, because another number would
// move existing records.
const (
	shardBits = 10
	Shards    = 1 << shardBits // the number of a namespace's shards
)

const hexDigits = "0123456789abcdef"

// DigestOf hashes scope and value. Their lengths are part of the hash, so different pairs never
// hash the same bytes. No byte of a scope or a value reaches a slot tag or a pattern.
//
// The first bytes are a hash of the scope alone, so that a completer that has only the names of
// keys can take turns between scopes.
func DigestOf(scope, value string) [sha256.Size]byte {
	return HashScope(scope).DigestOf(scope, value)
}

// ScopeHash is the part of a digest that all keys of a scope share.
type ScopeHash [scopeBytes]byte

// HashScope returns the hash of a scope.
func HashScope(scope string) ScopeHash {
	var space [512]byte
	sum := sha256.Sum256(appendScope(space[:0], scope))
	sum[0] &= 0x7f // the name begins with a letter: a command line would take a dash for a flag
	return ScopeHash(sum[:scopeBytes])
}

func appendScope(b []byte, scope string) []byte {
	return AppendPart(append(b, "redisidem/key/2"...), scope)
}

// DigestOf is the function of that name, for a caller that has the hash of the scope.
func (h ScopeHash) DigestOf(scope, value string) [sha256.Size]byte {
	var space [512]byte
	sum := sha256.Sum256(AppendPart(appendScope(space[:0], scope), value))
	copy(sum[:], h[:])
	return sum
}

// scopeBytes is how many bytes of a name are a hash of the scope, and scopeLength how long they are
// as text. Scopes with the same hash share their turns.
const (
	scopeBytes  = 3
	scopeLength = 4
)

// ScopePart returns the part of a key's digest that all keys of its scope share.
func ScopePart(digest string) string { return digest[:min(len(digest), scopeLength)] }

// Identify derives a key's identity from its digest. It keeps 168 bits of the hash of scope and
// value, so that a caller with a free choice of keys cannot find a collision with another scope.
func Identify(namespace, scope, value string, sum [sha256.Size]byte) Identity {
	shard := binary.BigEndian.Uint16(sum[24:]) >> (16 - shardBits)
	var space [512]byte
	n := append(append(space[:0], namespace...), ":{"...)
	n = append(n, hexDigits[shard>>8], hexDigits[shard>>4&15], hexDigits[shard&15])
	n = append(n, "}:"...)
	begin := len(n)
	n = base64.RawURLEncoding.AppendEncode(n, sum[:len(Name{})])
	end := len(n)
	lock := string(append(n, lockSuffix...))
	return Identity{Name: Name(sum[:len(Name{})]), Scope: scope, Value: value, Digest: lock[begin:end], Record: lock[:end], Lock: lock}
}

// IdentityIn returns the identity of a record by its shard's prefix and its digest, without scope
// and value. It reports false if the digest is malformed.
func IdentityIn(prefix, digest string) (id Identity, ok bool) {
	n, ok := NameOf(digest)
	record := prefix + digest
	return Identity{Name: n, Digest: digest, Record: record, Lock: record + lockSuffix}, ok
}

// NameOf returns the name of the key that a record belongs to, from the record's Redis key.
func NameOf(record string) (n Name, ok bool) {
	if len(record) < nameLength {
		return n, false
	}
	_, err := base64.RawURLEncoding.Decode(n[:], []byte(record[len(record)-nameLength:]))
	return n, err == nil
}

// lockSuffix makes the key of a lock from that of its record.
const lockSuffix = ":lock"

// prefix returns the prefix of all Redis keys in the record's shard.
func (id Identity) prefix() string { return id.Record[:len(id.Record)-nameLength] }

// DueIndex returns the Redis key of the due index that holds a flow's keys in the record's shard.
func (id Identity) DueIndex(flow string) string { return DueIndex(id.prefix(), flow) }

// DeadLetters returns the Redis key of the list of a flow's dead letters in the record's shard.
func (id Identity) DeadLetters(flow string) string { return DeadLetters(id.prefix(), flow) }

// ShardKey returns the Redis key of a program's own data in the record's shard. The x keeps it
// apart from the library's keys.
func (id Identity) ShardKey(name string) string { return id.prefix() + "x:" + name }

// ShardPrefix returns the prefix of all Redis keys in a shard.
func ShardPrefix(namespace string, shard int) string {
	return fmt.Sprintf("%s:{%03x}:", namespace, shard)
}

// DueIndex returns the Redis key of the due index of a flow in the shard with this prefix.
func DueIndex(prefix, flow string) string { return prefix + "due:" + flow }

// DeadLetters returns the Redis key of a flow's dead letters in the shard with this prefix.
func DeadLetters(prefix, flow string) string { return prefix + "dead:" + flow }

// TurnsKey returns the Redis key of the hash by which completers take turns. Versions without rests
// have a string for each flow instead. The slash keeps the hash apart from it, because it is in no
// flow's name.
func TurnsKey(namespace string) string { return namespace + ":turn:/flows" }

// RunningKeys returns the Redis key of the set of a flow's keys that completers work on.
func RunningKeys(namespace, flow string) string {
	return namespace + ":turn:{" + TurnsKey(namespace) + "}:running:" + flow
}

// flowAuditStream returns the Redis key of the audit stream of acts on flows. Its tag puts it into
// the slot of the turns, and its prefix is theirs.
func flowAuditStream(namespace string) string {
	return namespace + ":turn:{" + TurnsKey(namespace) + "}:audit"
}

// resumesKey returns the Redis key of the hash with the times at which flows were resumed. It is in
// the slot of the turns.
func resumesKey(namespace string) string {
	return namespace + ":turn:{" + TurnsKey(namespace) + "}:resumes"
}

// knownFlowsKey returns the Redis key of the hash whose fields are the flows that completers have
// scanned. It is in the slot of the turns.
func knownFlowsKey(namespace string) string {
	return namespace + ":turn:{" + TurnsKey(namespace) + "}:known"
}

// QuotaKey returns the Redis key of the hash with the use of a scope's quota.
func QuotaKey(namespace, scope string) string {
	var space [512]byte
	b := append(space[:0], "redisidem/quota/1"...)
	sum := sha256.Sum256(AppendPart(b, scope))
	return namespace + ":quota:" + base64.RawURLEncoding.EncodeToString(sum[:len(Name{})])
}

// NewWakeChannel returns a fresh channel on which scripts can report to one process that a key is
// free.
func NewWakeChannel(namespace string) string { return namespace + ":wake:" + rand.Text() }

// DeletedChannel returns the channel on which deletions are reported.
func DeletedChannel(namespace string) string { return namespace + ":deleted" }

// FlowName returns the name in name/version; "" if flow is not of that form. A damaged record can
// have any text there, and Redis keys contain the name.
func FlowName(flow string) string {
	name, _, ok := strings.Cut(flow, "/")
	if !ok || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
		return ""
	}
	return name
}

// AppendPart appends a part of a text to be hashed, after the part's length. Adjacent parts then
// cannot be confused with one longer part.
func AppendPart[T string | []byte](b []byte, part T) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
	return append(b, part...)
}
