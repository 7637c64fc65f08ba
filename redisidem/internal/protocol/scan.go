package protocol

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Position is how far a scan of all masters has come: the cursor of each master that it has not
// finished. The zero value is the beginning.
type Position map[string]uint64

// ErrPosition reports that a position has a master that the cluster does not have.
var ErrPosition = errors.New("the cluster has other masters than when the scan began")

// String returns the position as text; "" for the beginning and for the end.
func (p Position) String() string {
	words := make([]string, 0, len(p))
	for _, master := range slices.Sorted(maps.Keys(p)) {
		words = append(words, strconv.FormatUint(p[master], 10)+"@"+master)
	}
	return strings.Join(words, ",")
}

// ParsePosition reads a position from text.
func ParsePosition(text string) (Position, error) {
	if text == "" {
		return nil, nil
	}
	p := make(Position)
	for word := range strings.SplitSeq(text, ",") {
		cursor, master, ok := strings.Cut(word, "@")
		n, err := strconv.ParseUint(cursor, 10, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("%q is not a position", word)
		}
		p[master] = n
	}
	return p, nil
}

// Scan does one step of a scan for Redis keys by a pattern. Each master looks at about count of its
// keys. The result has no key twice, but a key of an earlier step may come again. The next position
// is empty at the end.
func (c *Client) Scan(ctx context.Context, pattern string, count int, from Position) (keys []string, next Position, err error) {
	var mu sync.Mutex
	met := 0
	err = c.eachMaster(ctx, func(ctx context.Context, name string, node *redis.Client) error {
		cursor, unfinished := from[name]
		if !unfinished && len(from) > 0 {
			return nil
		}
		var found []string
		err := Repeat(ctx, func(ctx context.Context) (err error) {
			found, cursor, err = node.Scan(ctx, from[name], pattern, int64(count)).Result()
			return err
		})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		met++
		keys = append(keys, found...)
		if cursor != 0 {
			if next == nil {
				next = make(Position)
			}
			next[name] = cursor
		}
		return nil
	})
	if err == nil && met < len(from) {
		err = ErrPosition
	}
	slices.Sort(keys)
	return slices.Compact(keys), next, err
}

// RecordPattern returns the pattern of the records of a namespace.
func RecordPattern(namespace string) string {
	return escapePattern(namespace) + ":{???}:" + strings.Repeat("?", nameLength)
}

// escapePattern returns a pattern that matches a text only.
func escapePattern(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(text)
}

// SplitRecord returns the shard's prefix and the digest in the Redis key of a record. It reports
// false for another Redis key.
func SplitRecord(record string) (prefix, digest string, ok bool) {
	if _, ok = NameOf(record); !ok {
		return "", "", false
	}
	prefix, digest = record[:len(record)-nameLength], record[len(record)-nameLength:]
	return prefix, digest, strings.HasSuffix(prefix, "}:")
}

// Find returns the place of the record with a digest, in whichever shard it is. It reports false if
// there is no such record. It takes a few requests.
func (c *Client) Find(ctx context.Context, digest string) (id Identity, ok bool, err error) {
	records := make([]string, Shards)
	for shard := range records {
		records[shard] = ShardPrefix(c.namespace, shard) + digest
	}
	found, err := c.Existing(ctx, records, operatorAsks)
	if len(found) == 0 {
		return Identity{}, false, err
	}
	id, ok = IdentityIn(found[0][:len(found[0])-len(digest)], digest)
	return id, ok, nil
}
