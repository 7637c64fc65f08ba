package redisidem

import (
	"context"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// cache has copies of finished records, which never change any more: a replay from it sends nothing
// to Redis. It is bounded by bytes, and a copy lasts no longer than its record would. A deletion
// that is published on the channel puts a tombstone in place of the copy, so that a reply that is
// under way does not bring the record back.
type cache struct {
	otter *otter.Cache[protocol.Name, copied]
	life  time.Duration
	trace time.Duration // how long an answer can be under way

	lookups *stats.Counter // the hits and misses of get

	mu     sync.Mutex // makes put's look and its write one step
	purged time.Time
}

// copied is a copy of a finished record, or the tombstone of a deleted one.
type copied struct {
	key   *Key // nil: the record was deleted
	until time.Time
	// deleted is when a record of the key was deleted last. Answers that were asked for before are
	// not kept.
	deleted time.Time
}

// copyOverhead is about what a copy takes besides its bytes.
const copyOverhead = 640

func newCache(bytes int64, life, trace time.Duration) (*cache, error) {
	o, err := otter.New(&otter.Options[protocol.Name, copied]{
		MaximumWeight: uint64(bytes), //nolint:gosec // it is positive, or there is no cache
		Weigher:       func(_ protocol.Name, c copied) uint32 { return c.weight() },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[protocol.Name, copied]) time.Duration {
			return time.Until(e.Value.until)
		}),
		// Cleaning up is quick, so that Close need not wait for a goroutine.
		Executor: func(task func()) { task() },
	})
	if err != nil {
		return nil, err
	}
	return &cache{otter: o, life: life, trace: trace, lookups: stats.NewCounter()}, nil
}

// weight is about what a copy takes. A tombstone weighs nothing, so that it is never dropped to
// make room for copies. It stays for as long as a reply can be under way.
func (c copied) weight() uint32 {
	k := c.key
	if k == nil {
		return 0
	}
	n := copyOverhead + len(k.Value) + len(k.Scope) + len(k.Method) + len(k.Path) + len(k.Params) + len(k.state) + 64*len(k.Journal)
	if k.Response != nil {
		n += len(k.Response.Body)
		for field, values := range k.Response.Header {
			n += 64 + len(field)
			for _, v := range values {
				n += 16 + len(v)
			}
		}
	}
	return uint32(n) //nolint:gosec // values are bounded by MaxValueBytes, far below
}

// get returns a shallow copy of the key, or nil if the cache has no key.
func (c *cache) get(n protocol.Name, scope, value string, wanted *fingerprint) *Key {
	k := c.find(n, scope, value, wanted)
	if k == nil {
		c.lookups.RecordMisses(1)
	} else {
		c.lookups.RecordHits(1)
	}
	return k
}

func (c *cache) find(n protocol.Name, scope, value string, wanted *fingerprint) *Key {
	found, ok := c.otter.GetIfPresent(n)
	if !ok || found.key == nil {
		return nil
	}
	// By both clocks: the monotonic one stands still while the machine is suspended.
	now := time.Now()
	if !now.Before(found.until) || !now.Round(0).Before(found.until.Round(0)) {
		return nil
	}
	// Another fingerprint is for Redis to refuse: there may be another record by now.
	if k := found.key; k.fingerprint != string(wanted[:]) || k.Scope != scope || k.Value != value {
		return nil
	}
	k := *found.key
	return &k
}

// put keeps a finished key from an answer that was asked for at sent. It keeps it for life, which
// is what its record has left, or for CacheLife if that is shorter.
func (c *cache) put(n protocol.Name, key *Key, sent time.Time, life time.Duration) {
	until := sent.Add(min(life, c.life))
	if !time.Now().Before(until) {
		return
	}
	k := key.clone() // the caller may do with its own what it likes
	k.copyTexts()
	k.ownAnswer = false
	c.mu.Lock()
	defer c.mu.Unlock()
	if !sent.After(c.purged) {
		return
	}
	old, _ := c.otter.GetIfPresent(n)
	if !sent.After(old.deleted) {
		return
	}
	c.otter.Set(n, copied{key: k, until: until, deleted: old.deleted})
}

// forget drops the copy of a deleted record.
func (c *cache) forget(record string) {
	n, ok := protocol.NameOf(record)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.otter.Set(n, copied{until: now.Add(c.trace), deleted: now})
}

// purge drops all copies, and keeps answers that are under way from bringing one back.
func (c *cache) purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.purged = time.Now()
	c.otter.InvalidateAll()
}

// close drops all copies for good.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.purged = time.Now().Add(time.Hour * 24 * 365)
	c.otter.InvalidateAll()
	c.otter.StopAllGoroutines()
}

// cached looks for the answer to a request among the copies of finished records. Without one, it
// returns the key's identity and the encoded request, for a request to Redis.
func (sc *Scope) cached(ctx context.Context, value string, req Request) (*Key, identity, encodedRequest, error) {
	s := sc.service
	if err := sc.validate(value); err != nil {
		return nil, identity{}, encodedRequest{}, err
	}
	encoded, err := req.encode(s.cfg.MaxValueBytes, s.cfg.FingerprintKeys.primary())
	if err != nil {
		return nil, identity{}, encodedRequest{}, err
	}
	sum := sc.hash.DigestOf(sc.name, value)
	if s.cache != nil {
		if key := s.cache.get(protocol.Name(sum[:len(protocol.Name{})]), sc.name, value, &encoded.digest); key != nil {
			if s.cfg.Observer != nil {
				s.observe(ctx, Event{Kind: EventReplayed, Key: key.ID(), Flow: key.Flow, Revision: key.Revision, RecoveryPoint: Finished, FromCopy: true})
			}
			return key, identity{}, encodedRequest{}, nil
		}
	}
	id := protocol.Identify(s.cfg.Namespace, sc.name, value, sum)
	if s.cfg.FingerprintKeys.older() == nil {
		encoded.given = nil
	}
	err = encoded.keep(s.valueCodec, id)
	return nil, id, encoded, err
}
