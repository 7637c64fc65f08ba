package idemtest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// keyspace is the content of a namespace in Redis, read without the library.
type keyspace struct {
	t         testing.TB
	namespace string
	client    redis.UniversalClient
}

// bounded returns a context for cleanups, which outlives the test's own for a bounded time.
func (s *keyspace) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(s.t.Context()), patience)
}

// keys returns the names of all keys in the namespace, sorted.
func (s *keyspace) keys(ctx context.Context) []string {
	s.t.Helper()
	var mu sync.Mutex
	var keys []string
	scan := func(ctx context.Context, node *redis.Client) error {
		it := node.Scan(ctx, 0, s.namespace+":*", 1000).Iterator()
		for it.Next(ctx) {
			mu.Lock()
			keys = append(keys, it.Val())
			mu.Unlock()
		}
		return it.Err()
	}
	var err error
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, scan)
	case *redis.Client:
		err = scan(ctx, c)
	}
	if err != nil {
		s.t.Errorf("idemtest: list the keys in Redis: %v", err)
	}
	slices.Sort(keys)
	return slices.Compact(keys) // SCAN may return a key twice
}

// close removes all keys in the namespace, and closes the client.
func (s *keyspace) close() {
	s.t.Helper()
	ctx, cancel := s.bounded()
	defer cancel()
	for _, key := range s.keys(ctx) {
		if err := s.client.Del(ctx, key).Err(); err != nil {
			s.t.Errorf("idemtest: remove the test's keys from Redis: %v", err)
		}
	}
	_ = s.client.Close()
}

// mustBeTidy checks the keys after all work has ended and no key needs recovery. There must be no
// lock, no index entry, and no key without an expiry except the program's own.
func (s *keyspace) mustBeTidy() {
	s.t.Helper()
	ctx, cancel := s.bounded()
	defer cancel()
	for _, key := range s.keys(ctx) {
		_, name, _ := strings.Cut(key, "}:")
		own := strings.HasPrefix(name, "x:")
		switch {
		case own:
		case strings.HasSuffix(name, ":lock"):
			s.t.Errorf("a lock is left: %s", key)
		case strings.HasPrefix(name, "due:"), strings.HasPrefix(name, "dead:"):
			s.t.Errorf("a key is due for recovery although all work is finished: %s", key)
		default:
			ttl, err := s.client.PTTL(ctx, key).Result()
			if err != nil || ttl == noExpiry {
				s.t.Errorf("%s has no expiry, %v", key, err)
			}
		}
	}
}

// noExpiry is go-redis's PTTL result for a key without an expiry.
const noExpiry = -1
