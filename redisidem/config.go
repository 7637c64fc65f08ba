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
	DefaultNamespace = "redisidem"
	DefaultRetention = 24 * time.Hour
	// DefaultDeadLetterRetention is that of Config.DeadLetterRetention.
	DefaultDeadLetterRetention = 30 * 24 * time.Hour
	DefaultLease               = 10 * time.Second
	DefaultMaxHold             = 15 * time.Minute
	DefaultTimeout             = 500 * time.Millisecond
	DefaultCommitRetry         = time.Minute
	DefaultCacheLife           = time.Minute
	DefaultMaxKeyBytes         = 255
	DefaultMaxValueBytes       = 1 << 20
)

// Config configures a [Service]. The zero value of each field means its default, and so does a nil
// *Config. Services that work on the same keys need the same Namespace, and a Codec and
// FingerprintKeys that fit each other. Everything else may differ between them. For MaxValueBytes,
// see there.
type Config struct {
	// Namespace is the prefix of every key and channel in Redis. It must not contain braces, which
	// mark the cluster slot, or white space. At most MaxKeyBytes long. Default: "redisidem".
	Namespace string

	// Retention is how long a record is kept after its last change. A later retry runs the work
	// again, so choose it longer than any client retries. Not shorter than Lease. Default: 24 h.
	// [Service.WithRetention] has another one for some scopes or a single call.
	Retention time.Duration

	// DeadLetterRetention is how long a dead letter and its record are kept, so that an operator
	// finds it after a weekend and a retry does not begin anew meanwhile. If it is shorter than
	// Retention plus Lease, it is raised to that. Default: 30 days.
	DeadLetterRetention time.Duration

	// Lease is how long a key stays locked after its worker has died: the longest time for which a
	// crash makes a retry wait. Live workers renew the lease at each third of it. Whole
	// milliseconds, at least 10 ms. Below about 1 s, network delays cost leases. Default: 10 s.
	Lease time.Duration

	// MaxHold bounds how long one stage can keep its lease by renewing it, so that a callback that
	// hangs does not hold its key without end. The stage's context is then cancelled with
	// ErrMaxHold. It counts from the claim, or from the last commit under the same lease. At least
	// 1 ms. Default: 15 min. Negative: no bound.
	MaxHold time.Duration

	// Timeout bounds each operation on Redis, including its repetitions. A method does one or
	// several of them, and returns after the first that gets no answer. At least 1 ms. Default: 500
	// ms.
	Timeout time.Duration

	// Wait is how long a call waits for a key that another worker has. Scope.Wait sets it for
	// single calls. The last request to Redis may take Timeout more. Zero, the default, and
	// negative values: the call returns a LockedError at once.
	Wait time.Duration

	// CommitRetry is how long a commit without an answer is retried in the background, after its
	// caller got ErrOutcomeUnknown. A lease under which nothing was done is given back in the same
	// way. Default: 1 min. Negative: no retries.
	//
	// At most 1024 commits and 1024 give-backs are retried at once, because each commit holds its
	// response in memory. Further ones are tried once, and this is logged. A retry of the request
	// then finds out whether the commit was stored. A lease that was not given back lapses and
	// counts as an attempt.
	CommitRetry time.Duration

	// Durability is the number of replicas that must acknowledge a claim before its callback runs,
	// and a commit before it is reported. It closes the gap that asynchronous replication leaves at
	// a failover, and costs a round trip to the replicas.
	//
	// If all replicas that may be promoted must acknowledge, nothing acknowledged is lost. With
	// fewer, nothing is lost as long as one that acknowledged is promoted. Sentinel and clusters
	// try to promote such a replica. Must not be negative. Default: 0, no replicas.
	Durability int

	// AutoPipeline sends the commands of concurrent callers in common pipelines. This multiplies
	// the throughput of a service with many callers, and gains nothing for a single caller.
	// docs/design.md describes the costs. Claims and commits with Durability need a connection of
	// their own, and are not pipelined across callers.
	AutoPipeline bool

	// CacheBytes is about how much memory the service may use for copies of finished records. It
	// answers replays from these copies without asking Redis. The response, params and journal of
	// such a replay's Key are shared with other replays and must not be changed. Zero, the default,
	// and negative values: no copies.
	CacheBytes int64

	// CacheLife bounds how long a copy answers. It answers until its record would have expired, if
	// that is sooner. The bound matters if Redis has lost the record, and after a Delete: other
	// processes are notified and drop their copies. A process whose connection failed, or whose
	// Redis user may not use the channel, misses the notification. It answers from its copy for up
	// to CacheLife. At least 1 ms. Default: 1 min.
	CacheLife time.Duration

	// MaxKeyBytes bounds the length of a key and of a scope. At least 36, the length of the keys
	// that Scope.Create makes. Default: 255.
	MaxKeyBytes int

	// MaxValueBytes bounds each stored value: params, state, response headers and response body. It
	// also bounds the earlier states that a key keeps for its compensations, taken together. A
	// record with a longer value is ErrDamaged. Lower the bound only when the records of the last
	// service that writes longer values have expired, dead letters included: after Retention and
	// after DeadLetterRetention. Between 1 B and 512 MiB. Default: 1 MiB.
	MaxValueBytes int

	// Codec encodes the values of records: params, states, response headers and bodies, and the
	// text of the last failure. Services that work on the same keys need codecs that decode each
	// other's values. See package codec. Default: nil, values are stored as they are.
	Codec Codec

	// FingerprintKeys make the fingerprints of requests keyed digests. A reader of Redis then
	// cannot guess the contents of small requests. See NewFingerprintKeys. Default: nil, plain
	// digests.
	FingerprintKeys *FingerprintKeys

	// Owner names this process in the journals of keys, for human readers. At most 64 bytes,
	// without white space. Default: the host's name and the process ID.
	Owner string

	// DiscardFailures stores no texts of errors in records. Without it, the error of a failed
	// attempt is stored for operators, at most 256 bytes of its text, through Codec. Set it if
	// errors may contain what must not be stored. Default: false.
	DiscardFailures bool

	// Observer receives the events of EventKind, and the spans of the work if it is a Tracer.
	// Observers joins several. Default: nil, no events.
	Observer Observer

	// Logger receives what no call can return: background work that failed, and the warnings of
	// Open. Default: nil, nothing is logged.
	Logger *slog.Logger
}

// withDefaults returns a copy with the default in every zero field.
func (c *Config) withDefaults() Config {
	var out Config
	if c != nil {
		out = *c
	}
	def(&out.Namespace, DefaultNamespace)
	def(&out.Retention, DefaultRetention)
	def(&out.DeadLetterRetention, DefaultDeadLetterRetention)
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

// defaultOwner returns the host's name and the process ID.
func defaultOwner() string {
	host, err := os.Hostname()
	if err != nil || host == "" || strings.ContainsFunc(host, unicode.IsSpace) {
		host = "unknown"
	}
	return host[:min(len(host), maxOwnerBytes-20)] + "/" + strconv.Itoa(os.Getpid())
}

// validate returns an error for the first field that breaks its bound. Defaults must be filled in.
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
		return invalid("Config.MaxValueBytes", "must be between 1 B and 512 MiB, in bytes: %d", c.MaxValueBytes)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"CacheLife", c.CacheLife}, {"Timeout", c.Timeout}, {"Retention", c.Retention}, {"DeadLetterRetention", c.DeadLetterRetention}} {
		if d.value < time.Millisecond || d.value > maxDuration {
			return invalid("Config."+d.field, "must be between 1ms and %v: %v", maxDuration, d.value)
		}
	}
	if c.Retention < c.Lease {
		return invalid("Config.Retention", "(%v) must not be shorter than Config.Lease (%v)", c.Retention, c.Lease)
	}
	return nil
}

// minLease keeps the last tenth of a lease longer than the differences in speed between the clocks
// of a worker and of Redis. In that tenth, a worker that cannot renew its lease stops.
const minLease = 10 * time.Millisecond

// maxDuration keeps sums of lease and retention in milliseconds well within the range in which
// Lua's numbers are exact.
const maxDuration = 100 * 365 * 24 * time.Hour
