package idemtest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// store is a look at what a namespace holds in Redis, past the library.
type store struct {
	t         testing.TB
	namespace string
	client    redis.UniversalClient
}

// bounded returns a context that outlives the test's own, for its cleanups, and not by much.
func (s *store) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(s.t.Context()), patience)
}

// keys returns the names of all keys in the namespace, in order.
func (s *store) keys(ctx context.Context) []string {
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
		s.t.Errorf("idemtest: look at what Redis holds: %v", err)
	}
	slices.Sort(keys)
	return slices.Compact(keys) // SCAN may tell of a key twice
}

// close removes all keys in the namespace, and closes the client.
func (s *store) close() {
	s.t.Helper()
	ctx, cancel := s.bounded()
	defer cancel()
	for _, key := range s.keys(ctx) {
		if err := s.client.Del(ctx, key).Err(); err != nil {
			s.t.Errorf("idemtest: remove what the test has left in Redis: %v", err)
		}
	}
	_ = s.client.Close()
}

// mustBeTidy checks what is there when nobody works and nothing is to be recovered: no lock, and nothing that stays for ever
// but the program's own keys.
func (s *store) mustBeTidy() {
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
			s.t.Errorf("something is to be recovered although all is finished: %s", key)
		default:
			ttl, err := s.client.PTTL(ctx, key).Result()
			if err != nil || ttl == noExpiry {
				s.t.Errorf("%s stays for ever, %v", key, err)
			}
		}
	}
}

// noExpiry is go-redis's answer for a key without an expiry.
const noExpiry = -1
