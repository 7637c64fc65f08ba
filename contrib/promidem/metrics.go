package promidem

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redisidem/redisidem/redisidem"
)

// Metrics are the metrics of a service. They are a [redisidem.Observer] and a
// [prometheus.Collector], and safe for concurrent use. Make them with [New].
type Metrics struct {
	cfg      Config
	events   *prometheus.CounterVec
	errors   *prometheus.CounterVec
	claims   *prometheus.HistogramVec
	stages   *prometheus.HistogramVec
	renewals prometheus.Histogram
	watched  atomic.Pointer[watch]
	quota    atomic.Pointer[redisidem.Quota]
}

var (
	_ redisidem.Observer   = (*Metrics)(nil)
	_ prometheus.Collector = (*Metrics)(nil)
)

// seconds are the buckets of the histograms, from a round trip to Redis to a slow stage.
var seconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// New returns Metrics. A nil cfg means all defaults. It starts nothing.
func New(cfg *Config) *Metrics {
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: seconds}, labels)
	}
	m := &Metrics{
		cfg: cfg.withDefaults(),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redisidem_events_total", Help: "Events of idempotency keys.",
		}, []string{"kind", "flow", "stage"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redisidem_errors_total", Help: "Events of idempotency keys with an error, by its reason.",
		}, []string{"kind", "reason"}),
		claims: histogram("redisidem_claim_seconds", "Time that callers waited for a lease that they got.", "flow"),
		stages: histogram("redisidem_stage_seconds", "Time from the claim, or from the commit before, to the commit of a stage.", "flow", "stage"),
		renewals: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "redisidem_renewal_seconds", Help: "Round trips of renewals of leases.", Buckets: seconds,
		}),
	}
	for kind, words := range expected {
		for _, reason := range words {
			m.errors.WithLabelValues(kind.String(), reason)
		}
	}
	for kind, stage := range calls {
		m.events.WithLabelValues(kind.String(), "", stage)
	}
	m.claims.WithLabelValues("")
	return m
}

// calls are the events of calls without a flow, with the stage of each. Alerts compare errors with
// them.
var calls = map[redisidem.EventKind]string{
	redisidem.EventClaimed: redisidem.Started, redisidem.EventReplayed: "", redisidem.EventRefused: "",
}

// expected are the errors that alerts are about: for an alert about all reasons of a kind, all that
// the kind can have. Their counters begin with 0, because Prometheus does not see an increase in
// the first value of a counter.
var expected = map[redisidem.EventKind][]string{
	redisidem.EventRefused:        {"locked", "mismatch", "unavailable", "damaged"},
	redisidem.EventCommitted:      {"not-kept"},
	redisidem.EventLeaseLost:      {"fenced", "lease-lost", "max-hold"},
	redisidem.EventOutcomeUnknown: {"outcome-unknown", "unavailable", "not-permitted"},
	redisidem.EventCommitDropped:  {"outcome-unknown", "not-permitted", "fenced", "effect", "damaged", "other"},
	redisidem.EventFailed:         {"deadline", "exhausted", "canceled-key"},
	redisidem.EventHung:           {"max-hold", "stage-timeout", "lease-lost"},
}

// Observe implements [redisidem.Observer].
func (m *Metrics) Observe(_ context.Context, e redisidem.Event) {
	stage := stageLabel(e.Stage)
	m.events.WithLabelValues(e.Kind.String(), e.Flow, stage).Inc()
	if e.Err != nil {
		m.errors.WithLabelValues(e.Kind.String(), redisidem.Reason(e.Err)).Inc()
	}
	switch e.Kind {
	case redisidem.EventClaimed:
		m.claims.WithLabelValues(e.Flow).Observe(e.Duration.Seconds())
	case redisidem.EventCommitted:
		m.stages.WithLabelValues(e.Flow, stage).Observe(e.Duration.Seconds())
	case redisidem.EventRenewed:
		m.renewals.Observe(e.Duration.Seconds())
	default:
	}
}

// stageLabel returns a stage as a label. All compensations have one, because their recovery points
// have numbers.
func stageLabel(stage string) string {
	if strings.HasPrefix(stage, "compensate:") {
		return "compensate"
	}
	return stage
}

// own are the collectors that events fill.
func (m *Metrics) own() []prometheus.Collector {
	return []prometheus.Collector{m.events, m.errors, m.claims, m.stages, m.renewals}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range m.own() {
		c.Describe(to)
	}
	for _, d := range slices.Concat(watchDescs, quotaDescs) {
		to <- d
	}
}

// Collect implements [prometheus.Collector]. After Watch it asks Redis if the numbers of Redis are
// older than Config.Interval, and blocks for up to Config.Timeout. If Redis does not answer in this
// time, it leaves the numbers out, and redisidem_redis_up is 0.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.own() {
		c.Collect(to)
	}
	if w := m.watched.Load(); w != nil {
		w.collect(to)
	}
	m.collectQuota(to)
}
