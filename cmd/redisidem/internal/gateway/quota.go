package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// limits returns the quota for the middleware, nil without a limit.
func (g *Gateway) limits() httpidem.Quota {
	if g.quota == nil {
		return nil
	}
	return g.quota
}

// quotaMetrics collects the numbers of a quota.
type quotaMetrics struct{ quota *redisidem.Quota }

var (
	scopeUse = prometheus.NewDesc("redisidem_scope_use_ratio",
		"Use of the scope that is closest to its limit, as a fraction of the limit.", []string{"quota"}, nil)
	scopesInUse  = prometheus.NewDesc("redisidem_scope_shares", "Scopes of whose quota this process has a share.", nil, nil)
	quotaCalls   = prometheus.NewDesc("redisidem_scope_calls_total", "Calls to Redis about quotas, by result: answered or failed.", []string{"result"}, nil)
	quotaRefused = prometheus.NewDesc("redisidem_scope_refused_total", "Requests that a quota had no place for.", nil, nil)
	quotaAlone   = prometheus.NewDesc("redisidem_scope_alone_total", "Requests that this process admitted by itself, since Redis did not answer.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (quotaMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{scopeUse, scopesInUse, quotaCalls, quotaRefused, quotaAlone} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (m quotaMetrics) Collect(to chan<- prometheus.Metric) {
	stats := m.quota.Stats()
	count := func(desc *prometheus.Desc, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(scopeUse, stats.InFlight, "in-flight")
	gauge(scopeUse, stats.Stored, "keys")
	gauge(scopesInUse, float64(stats.Scopes))
	count(quotaCalls, stats.Calls-stats.Failed, "answered")
	count(quotaCalls, stats.Failed, "failed")
	count(quotaRefused, stats.Refused)
	count(quotaAlone, stats.Alone)
}
