package redisidem

import (
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The defaults of [Config].
const (
	DefaultNamespace     = "redisidem"
	DefaultRetention     = 24 * time.Hour
	DefaultLease         = 10 * time.Second
	DefaultMaxHold       = 15 * time.Minute
	DefaultTimeout       = 500 * time.Millisecond
	DefaultCommitRetry   = time.Minute
	DefaultCacheLife     = time.Minute
	DefaultMaxKeyBytes   = 255
	DefaultMaxValueBytes = 1 << 20
)

// Config tunes a [Service]. The zero value of each field means its default, and a nil *Config means
// all defaults. Services that work on the same keys need the same Namespace; everything else may
// differ between them.
type Config struct {
	// Namespace is the prefix of every key and channel in Redis. It must not contain braces, since
	// they mark the cluster slot, nor white space. Default: "redisidem".
	Namespace string

	// Retention is how long a record is kept, counted from its last change. A retry that comes
	// later runs the work again, so it must be longer than any client retries. Not shorter than
	// Lease. Default: 24 h.
	Retention time.Duration

	// Lease is how long a worker that has gone silent keeps its key: the longest time that a crash
	// makes a retry wait. Live workers renew it at a third. Whole milliseconds, at least 10; below
	// about 1 s, network delays cost leases. Default: 10 s.
	Lease time.Duration

	// MaxHold bounds how long one lease can be kept by renewing it, so that a callback that hangs
	// does not hold its key for ever. The stage's context is then cancelled with ErrMaxHold.
	// Default: 15 min. Negative: no bound.
	MaxHold time.Duration

	// Timeout bounds each operation on Redis, repetitions included. A method that needs Redis and
	// gets no answer returns within it. At least 1 ms. Default: 500 ms.
	Timeout time.Duration

	// Wait is how long a caller waits for a key that another worker has. Zero, the default, and
	// negative values refuse at once with a LockedError. Scope.Wait sets it per call. The last
	// request to Redis may take Timeout more.
	Wait time.Duration

	// CommitRetry is how long a commit without an answer is retried in the background, after its
	// caller got ErrOutcomeUnknown. A lease under which no callback began is given back in the same
	// way. At most 1024 commits and 1024 give-backs are retried at once, because each commit holds
	// its response in memory. Further ones are tried once, which is logged: a retry of the request
	// finds out whether the commit was stored, and a lease that was not given back counts as an
	// attempt and lapses. Default: 1 min. Negative: not at all.
	CommitRetry time.Duration

	// Durability is the number of replicas that must acknowledge a claim before its callback runs,
	// and a commit before it is reported. It closes the gap that asynchronous replication leaves at
	// a failover, at the price of their round trip: when all replicas that may be promoted have to
	// acknowledge, nothing that was is lost; with fewer of them, nothing is as long as one of those
	// that did is promoted, as Sentinel and clusters mean to. Default: 0, none.
	Durability int

	// AutoPipeline sends the commands of concurrent callers in common pipelines, which multiplies
	// the throughput of a service with many callers. A lone caller gains nothing. See
	// docs/design.md for what it gives up. With Durability, which needs a connection of its own,
	// claims and commits are not pipelined across callers.
	AutoPipeline bool

	// CacheBytes is about how much memory the service may use for copies of finished records, from
	// which it answers replays without asking Redis. What such a replay's Key points to (response,
	// params, journal) is shared with other replays and must not be changed. Zero, the default, and
	// negative values: no copies.
	CacheBytes int64

	// CacheLife bounds how long a copy answers, besides the life of its record, which no copy
	// outlives. It matters only after a Delete: other processes hear of it and drop their copies,
	// but a process that lost its connection or whose Redis user may not use the channel answers
	// from its copy for up to so long. Default: 1 min.
	CacheLife time.Duration

	// MaxKeyBytes bounds the length of a key and of a scope. At least 36, the length of the keys
	// that Scope.Create makes. Default: 255.
	MaxKeyBytes int

	// MaxValueBytes bounds each stored value: params, state, response headers, response body. A
	// record with a longer value is ErrDamaged, so lower it only a Retention after the services
	// that write longer ones are gone. Default: 1 MiB.
	MaxValueBytes int

	// Codec encodes the values of records: params, state, response headers and bodies. All services
	// that work on the same keys need a codec that decodes what the others encode. See package
	// codec. Default: nil, values are stored as they are.
	Codec Codec

	// FingerprintKeys make the fingerprints of requests keyed digests, so that a reader of Redis
	// cannot guess the contents of small requests: see NewFingerprintKeys. Default: nil, plain
	// digests.
	FingerprintKeys *FingerprintKeys

	// Owner is the name under which this process's commits stand in the journals of keys, for
	// people who look at them. At most 64 bytes, without white space. Default: the host's name and
	// the process's number.
	Owner string

	// Observer receives an event for each change of a key. Default: nil, which costs nothing.
	Observer Observer

	// Logger receives the results of background work and the warnings of Open, which no call can
	// return. Default: nil, nothing is logged.
	Logger *slog.Logger
}

// withDefaults returns a copy in which every zero field has its default.
func (c *Config) withDefaults() Config {
	var out Config
	if c != nil {
		out = *c
	}
	def(&out.Namespace, DefaultNamespace)
	def(&out.Retention, DefaultRetention)
	def(&out.Lease, DefaultLease)
	def(&out.MaxHold, DefaultMaxHold)
	def(&out.Timeout, DefaultTimeout)
	def(&out.CommitRetry, DefaultCommitRetry)
	def(&out.CacheLife, DefaultCacheLife)
	def(&out.MaxKeyBytes, DefaultMaxKeyBytes)
	def(&out.MaxValueBytes, DefaultMaxValueBytes)
	def(&out.Owner, defaultOwner())
	if out.Logger == nil {
		out.Logger = slog.New(slog.DiscardHandler)
	}
	return out
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

const maxOwnerBytes = 64

// defaultOwner names this process.
func defaultOwner() string {
	host, err := os.Hostname()
	if err != nil || host == "" || strings.ContainsFunc(host, unicode.IsSpace) {
		host = "unknown"
	}
	return host[:min(len(host), maxOwnerBytes-20)] + "/" + strconv.Itoa(os.Getpid())
}

// validate reports the first field of a Config, defaults filled in, that breaks its bound.
func (c *Config) validate() error {
	switch {
	case c.MaxKeyBytes < createdKeyBytes:
		return invalid("Config.MaxKeyBytes", "must be at least %d, the length of a key that Create makes: %d", createdKeyBytes, c.MaxKeyBytes)
	case strings.ContainsAny(c.Namespace, "{}"):
		return invalid("Config.Namespace", "must not contain braces: %q", c.Namespace)
	case strings.ContainsFunc(c.Namespace, unicode.IsSpace):
		return invalid("Config.Namespace", "must not contain white space: %q", c.Namespace)
	case len(c.Namespace) > c.MaxKeyBytes:
		return invalid("Config.Namespace", "is %d bytes long, more than MaxKeyBytes (%d)", len(c.Namespace), c.MaxKeyBytes)
	case len(c.Owner) > maxOwnerBytes:
		return invalid("Config.Owner", "is %d bytes long, more than %d", len(c.Owner), maxOwnerBytes)
	case strings.ContainsFunc(c.Owner, unicode.IsSpace):
		return invalid("Config.Owner", "must not contain white space: %q", c.Owner)
	case c.Lease < minLease || c.Lease > maxDuration || c.Lease%time.Millisecond != 0:
		return invalid("Config.Lease", "must be whole milliseconds between %v and %v: %v", minLease, maxDuration, c.Lease)
	case c.MaxHold > 0 && c.MaxHold < time.Millisecond:
		return invalid("Config.MaxHold", "must be at least 1ms, or negative for no bound: %v", c.MaxHold)
	case c.Durability < 0:
		return invalid("Config.Durability", "must not be negative: %d", c.Durability)
	case c.MaxValueBytes < 1 || c.MaxValueBytes > 512<<20:
		return invalid("Config.MaxValueBytes", "must be between 1 and 512 MiB: %d", c.MaxValueBytes)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"CacheLife", c.CacheLife}, {"Timeout", c.Timeout}, {"Retention", c.Retention}} {
		if d.value < time.Millisecond || d.value > maxDuration {
			return invalid("Config."+d.field, "must be between 1ms and %v: %v", maxDuration, d.value)
		}
	}
	if c.Retention < c.Lease {
		return invalid("Config.Retention", "(%v) must not be shorter than Config.Lease (%v)", c.Retention, c.Lease)
	}
	return nil
}

// minLease leaves a tenth of itself, in which a worker that has lost its lease stops, longer than
// what servers' clocks leave out.
const minLease = 10 * time.Millisecond

// maxDuration keeps sums of lease and retention in milliseconds far from where Lua's numbers lose
// digits.
const maxDuration = 100 * 365 * 24 * time.Hour
