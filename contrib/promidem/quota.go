package promidem

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/redisidem/redisidem/redisidem"
)

var (
	scopeUse = prometheus.NewDesc("redisidem_scope_use_ratio",
		"Use of the scope that is closest to its limit, as a fraction of the limit.", []string{"quota"}, nil)
	scopesInUse  = prometheus.NewDesc("redisidem_scope_shares", "Scopes of whose quota this process has a share.", nil, nil)
	quotaCalls   = prometheus.NewDesc("redisidem_scope_calls_total", "Calls to Redis about quotas, by result: answered or failed.", []string{"result"}, nil)
	quotaRefused = prometheus.NewDesc("redisidem_scope_refused_total", "Requests that a quota had no place for.", nil, nil)
	quotaAlone   = prometheus.NewDesc("redisidem_scope_alone_total", "Requests that this process admitted by itself, since Redis did not answer.", nil, nil)
)

// quotaDescs describe the metrics of a quota.
var quotaDescs = []*prometheus.Desc{scopeUse, scopesInUse, quotaCalls, quotaRefused, quotaAlone}

// WatchQuota adds the numbers of a quota of this process. A second call replaces the first one's
// quota. Call it before the first scrape. The quota may be closed while it is watched.
func (m *Metrics) WatchQuota(q *redisidem.Quota) { m.quota.Store(q) }

// collectQuota collects the numbers of the quota, if there is one.
func (m *Metrics) collectQuota(to chan<- prometheus.Metric) {
	q := m.quota.Load()
	if q == nil {
		return
	}
	stats := q.Stats()
	to <- gauge(scopeUse, stats.InFlight, "in-flight")
	to <- gauge(scopeUse, stats.Stored, "keys")
	to <- gauge(scopesInUse, float64(stats.Scopes))
	to <- counter(quotaCalls, stats.Calls-stats.Failed, "answered")
	to <- counter(quotaCalls, stats.Failed, "failed")
	to <- counter(quotaRefused, stats.Refused)
	to <- counter(quotaAlone, stats.Alone)
}
