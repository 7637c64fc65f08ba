package gateway

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/redisidem/redisidem/redisidem"
)

// Metrics are the Prometheus metrics of the gateway. They are safe for concurrent use. Labels
// contain no key, scope or path.
type Metrics struct {
	registry *prometheus.Registry
	events   *prometheus.CounterVec
	refused  *prometheus.CounterVec
	claims   prometheus.Histogram
	stages   prometheus.Histogram
	requests *prometheus.HistogramVec
	inFlight prometheus.Gauge
	open     prometheus.Counter
	// interrupted counts requests that were refused because of an unknown outcome.
	interrupted prometheus.Counter
	reloads     *prometheus.CounterVec
	reloaded    prometheus.Gauge
}

// NewMetrics returns metrics in a registry of their own.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redisidem_events_total", Help: "Events of idempotency keys, by kind.",
		}, []string{"kind"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redisidem_refused_total", Help: "Requests refused because of their idempotency key.",
		}, []string{"reason"}),
		claims: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "redisidem_claim_seconds", Help: "Time that requests waited for the lease on their key.", Buckets: seconds,
		}),
		stages: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "redisidem_execution_seconds", Help: "Time from the claim of a key to the commit of its response.", Buckets: seconds,
		}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "redisidem_http_request_seconds", Help: "Time until the gateway answered requests.", Buckets: seconds,
		}, []string{"method", "status", "replayed"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "redisidem_http_in_flight", Help: "Requests that the gateway has not answered yet.",
		}),
		open: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "redisidem_unprotected_total", Help: "Requests forwarded without protection because Redis did not answer.",
		}),
		interrupted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "redisidem_interrupted_refused_total", Help: "Requests refused because the outcome of an earlier attempt is unknown.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redisidem_config_reloads_total", Help: "Reloads of the configuration, by result: applied or failed.",
		}, []string{"result"}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "redisidem_config_last_reload_successful", Help: "Whether the configuration in use is the newest: 0 after a reload that failed.",
		}),
	}
	m.reloaded.Set(1)
	m.registry.MustRegister(m.reloads, m.reloaded, m.events, m.refused, m.claims, m.stages, m.requests, m.inFlight, m.open, m.interrupted,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Reloaded counts a reload of the configuration, which failed unless err is nil.
func (m *Metrics) Reloaded(err error) {
	if err != nil {
		m.reloads.WithLabelValues("failed").Inc()
		m.reloaded.Set(0)
		return
	}
	m.reloads.WithLabelValues("applied").Inc()
	m.reloaded.Set(1)
}

// seconds are the buckets of the histograms, from a round trip to Redis to a slow upstream.
var seconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// Observe implements [redisidem.Observer].
func (m *Metrics) Observe(_ context.Context, e redisidem.Event) {
	m.events.WithLabelValues(e.Kind.String()).Inc()
	switch e.Kind {
	case redisidem.EventClaimed:
		m.claims.Observe(e.Duration.Seconds())
	case redisidem.EventCommitted:
		m.stages.Observe(e.Duration.Seconds())
	case redisidem.EventRefused:
		m.refused.WithLabelValues(reason(e.Err)).Inc()
	case redisidem.EventReplayed, redisidem.EventRenewed, redisidem.EventLeaseLost, redisidem.EventOutcomeUnknown, redisidem.EventAbandoned, redisidem.EventDeadLettered:
	}
}

// reason returns the label for an error, one of a few words.
func reason(err error) string {
	for _, r := range []struct {
		err  error
		word string
	}{
		{redisidem.ErrLocked, "locked"},
		{redisidem.ErrFingerprintMismatch, "mismatch"},
		{redisidem.ErrUnavailable, "unavailable"},
		{redisidem.ErrDamaged, "damaged"},
		{redisidem.ErrNotDurable, "not_durable"},
		{redisidem.ErrClosed, "closed"},
	} {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return "other"
}
