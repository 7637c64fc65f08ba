package gateway

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"

	"github.com/redisidem/redisidem/contrib/promidem"
)

// Metrics are the Prometheus metrics of the gateway, with those of package promidem. They are safe
// for concurrent use. Labels contain no key, scope or path.
type Metrics struct {
	*promidem.Metrics
	registry *prometheus.Registry
	results  *prometheus.CounterVec
	times    *prometheus.HistogramVec
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
		Metrics:  promidem.New(nil),
		registry: prometheus.NewRegistry(),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redisidem_http_results_total", Help: "Requests by their result. Late ones ended after their client was answered.",
		}, []string{"route", "result", "late"}),
		times: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "redisidem_http_result_seconds", Help: "Time until the gateway answered requests, by their result.", Buckets: seconds,
		}, []string{"route", "result"}),
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
	m.registry.MustRegister(m.Metrics, m.reloads, m.reloaded, m.results, m.times, m.requests, m.inFlight, m.open, m.interrupted,
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

// seconds are the buckets of the histograms, from a replay to a slow upstream.
var seconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// observe adds a duration to a histogram, with the trace of ctx as an exemplar if it is sampled.
func observe(ctx context.Context, to prometheus.Observer, took float64) {
	span := trace.SpanContextFromContext(ctx)
	if with, ok := to.(prometheus.ExemplarObserver); ok && span.IsSampled() {
		with.ObserveWithExemplar(took, prometheus.Labels{"trace_id": span.TraceID().String()})
		return
	}
	to.Observe(took)
}
