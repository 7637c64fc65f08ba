package promidem

import (
	"cmp"
	"slices"
	"time"
)

// The defaults of [Config].
const (
	DefaultInterval = 30 * time.Second
	DefaultTimeout  = 5 * time.Second
)

// Config configures [Metrics]. The zero value of each field means its default.
type Config struct {
	// Flows are names of flows whose dead letters and due keys are counted from the start. A flow
	// that a completer scans needs no name: it is counted once a look has found it, also when no
	// completer scans it any more. Name a flow whose completers may be gone when this process
	// starts, and flows beyond the 128 that are remembered. Each costs a server some 2 ms in a
	// look. Default: none.
	Flows []string
	// Interval is how long the numbers of Redis are used before a scrape asks again. Each time
	// costs about as much as one look of a completer and one Service.Check. All processes report
	// the same numbers, so with many processes a few of them are enough, above all on a cluster,
	// where each flow needs a command for each of the 1024 shards. Default: 30 s. Negative: Redis
	// is never asked, and its metrics are missing.
	Interval time.Duration
	// Timeout bounds how long a scrape waits for Redis. It should be below Prometheus's
	// scrape_timeout. Default: 5 s, also for negative values.
	Timeout time.Duration
}

// withDefaults returns a copy with the default in every zero field.
func (c *Config) withDefaults() Config {
	var out Config
	if c != nil {
		out = *c
	}
	out.Flows = slices.Clone(out.Flows)
	out.Interval = cmp.Or(out.Interval, DefaultInterval)
	out.Timeout = cmp.Or(max(out.Timeout, 0), DefaultTimeout)
	return out
}
