package redisidem

import (
	"context"
	"time"
)

// CopyCache is the cache of copies, for tests of races that no caller can bring about.
type CopyCache struct{ cache *cache }

// NewCopyCache makes a cache. It keeps tombstones for late, as long as a reply can be under way.
func NewCopyCache(bytes int64, life, late time.Duration) (*CopyCache, error) {
	c, err := newCache(bytes, life, late)
	return &CopyCache{c}, err
}

// Put stores a copy of a key from a reply to a request that was sent at that time.
func (c *CopyCache) Put(key *Key, sent time.Time) { c.cache.put(key.id.Name, key, sent, time.Hour) }

// Get returns the copy of a key for a caller with that scope, value and fingerprint.
func (c *CopyCache) Get(key *Key, scope, value, wanted string) *Key {
	f := fingerprintOf(wanted)
	return c.cache.get(key.id.Name, scope, value, &f)
}

// Forget handles the notification that the record of a key was deleted.
func (c *CopyCache) Forget(key *Key) { c.cache.forget(key.id.Record) }

// Purge drops all copies, as after an interruption of the subscription.
func (c *CopyCache) Purge() { c.cache.purge() }

// Close ends the cache.
func (c *CopyCache) Close() { c.cache.close() }

// Size returns the weight and the number of copies.
func (c *CopyCache) Size() (bytes uint64, copies int) {
	c.cache.otter.CleanUp()
	return c.cache.otter.WeightedSize(), c.cache.otter.EstimatedSize()
}

// FinishedKey makes a key as a reply to its caller has it.
func FinishedKey(scope, value, wanted string, body []byte) *Key {
	f := fingerprintOf(wanted)
	return &Key{
		Value: value, Scope: scope, RecoveryPoint: Finished, fingerprint: string(f[:]), ownAnswer: true,
		Response: &Response{Code: 200, Body: body}, id: placeOf("ns", scope, value),
	}
}

func fingerprintOf(text string) (f fingerprint) {
	copy(f[:], text)
	return f
}

// SetMaxBackground replaces the number of calls of one kind that are retried at the same time.
func (s *Service) SetMaxBackground(n int64) { s.maxBackground = n }

// OriginOf returns the traceparent that a key made with ctx stores.
func (s *Service) OriginOf(ctx context.Context) string { return s.origin(ctx) }
