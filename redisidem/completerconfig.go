package redisidem

import "time"

// The defaults of [CompleterConfig].
const (
	DefaultInterval    = 5 * time.Second
	DefaultConcurrency = 8
	DefaultDrain       = 15 * time.Second
)

// CompleterConfig configures a [Completer]. The zero value of each field means its default, and so
// does a nil *CompleterConfig.
type CompleterConfig struct {
	// Interval is the average pause between two scans for keys. Each pause differs from it by up to
	// a quarter. Must not be negative. Default: 5 s.
	//
	// A scan costs the server one EXISTS for each 4096 due indexes, of which each flow name has
	// 1024, and a small script for each index that exists. In a cluster it costs one EXISTS for
	// each of 1024 shards, whatever the number of flows. A flow is not scanned while its last scan
	// shows that none of its keys can be due: until the first of them is, and at most for the
	// shortest of RecoverAfter, InterimFor and 30 s.
	//
	// Processes take turns, so many of them scan no more often than one. A turn lasts three
	// quarters of its owner's Interval, at most 15 s. A process with a shorter turn does not wait
	// for a longer one.
	Interval time.Duration

	// Concurrency is how many keys of each flow name are worked on at once. Flows do not share
	// workers. Scopes take turns, so a scope with many due keys does not delay the others. A stage
	// that hangs gives its place to another key after EventHung, for up to as many hung stages as
	// there are places. At least 1. Default: 8.
	Concurrency int

	// MaxPerScope and MaxPerFlow bound how many keys of one scope, and of one flow name, completers
	// work on at once in all processes together. They should have the same bounds everywhere. Calls
	// by clients do not count. A hung stage counts as long as it runs, so with a bound it keeps
	// other keys of its scope or its flow waiting. Two scopes may share one bound by chance,
	// because scopes are compared by 23 bits of a hash.
	//
	// The bounds are kept as well as Redis can be reached: a key is worked on if it does not answer
	// for the bound, and a process that cannot reach it for a Lease no longer counts. They cost two
	// commands for each key, one in a third of Lease while it is worked on, and one in a quarter of
	// Interval while a scope waits for others. Zero: no bound. Must not be negative.
	MaxPerScope, MaxPerFlow int

	// Drain is how long running stages may continue after Run or Sweep was asked to end, or the
	// service was closed. Their contexts are cancelled then. [Stage.Attempt] counts such an
	// attempt, but MaxAttempts does not, because the stage has not failed. Default: 15 s. Negative:
	// the contexts are cancelled at once.
	Drain time.Duration
}

// complete fills in the defaults and checks the bounds.
func (c *CompleterConfig) complete() error {
	def(&c.Interval, DefaultInterval)
	def(&c.Concurrency, DefaultConcurrency)
	def(&c.Drain, DefaultDrain)
	switch {
	case c.Interval < 0:
		return invalid("CompleterConfig.Interval", "must not be negative: %v", c.Interval)
	case c.Concurrency < 1:
		return invalid("CompleterConfig.Concurrency", "must be at least 1: %d", c.Concurrency)
	case c.MaxPerScope < 0:
		return invalid("CompleterConfig.MaxPerScope", "must not be negative: %d", c.MaxPerScope)
	case c.MaxPerFlow < 0:
		return invalid("CompleterConfig.MaxPerFlow", "must not be negative: %d", c.MaxPerFlow)
	}
	return nil
}
