package redisidem

import (
	"context"
	"runtime"
	"time"
	"unsafe"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
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

// Looking reports whether the timer for the first renewals of leases is running.
func (s *Service) Looking() bool {
	s.inFlight.mu.Lock()
	defer s.inFlight.mu.Unlock()
	return s.inFlight.looking
}

// SetMaxBackground replaces the number of calls of one kind that are retried at the same time.
func (s *Service) SetMaxBackground(n int64) { s.maxBackground = n }

// HoldsReply reports whether the copy of a key that a reply has brought keeps that reply in memory.
func (c *CopyCache) HoldsReply(scope, value string) bool {
	id := placeOf("ns", scope, value)
	reply := make([]byte, 0, 1<<10)
	pairs := []string{
		fieldControl, "2 1 - 7 0 1 10000 t 5 o", fieldRequest, protocol.FormatRequest(scope, value, "POST", "/"), fieldFingerprint, "1:x",
		fieldPoint, Finished, fieldOrigin, "a trace", fieldFlow, "f/1", fieldNotKept, "Response", journalPrefix + "0", "6 t 7 1 o started",
		fieldLastFailure, "5 0 1 o why",
	}
	for _, text := range pairs {
		reply = append(reply, text...)
	}
	whole := unsafe.String(unsafe.SliceData(reply), len(reply))
	for i, text := range pairs {
		pairs[i], whole = whole[:len(text)], whole[len(text):]
	}
	key, err := decodeRecord(id, valueCodec{limit: 1}, pairs)
	if err != nil {
		panic(err)
	}
	freed := make(chan struct{})
	runtime.AddCleanup(unsafe.SliceData(reply), func(freed chan struct{}) { close(freed) }, freed)
	c.cache.put(id.Name, key, time.Now(), time.Hour)
	for range 100 {
		runtime.GC()
		select {
		case <-freed:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}

// OriginOf returns the traceparent that a key made with ctx stores.
func (s *Service) OriginOf(ctx context.Context) string { return s.origin(ctx) }

// Kill ends the renewals of a quota as the end of its process would. It gives nothing back.
func (q *Quota) Kill() {
	q.stop()
	<-q.ended
}

// Observe reports an event as calls do.
func (s *Service) Observe(ctx context.Context, e Event) { s.observe(ctx, e) }
