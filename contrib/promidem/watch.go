package promidem

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redisidem/redisidem/redisidem"
)

var (
	leasesHeld       = prometheus.NewDesc("redisidem_leases_held", "Leases of this process that have not ended.", nil, nil)
	stagesHung       = prometheus.NewDesc("redisidem_stages_hung", "Stages that go on although their contexts ended long ago.", nil, nil)
	commitsPending   = prometheus.NewDesc("redisidem_commits_pending", "Commits without an answer that are being retried.", nil, nil)
	giveBacksPending = prometheus.NewDesc("redisidem_give_backs_pending", "Leases that are being given back in the background.", nil, nil)
	copiesHeld       = prometheus.NewDesc("redisidem_copies", "Copies of finished records.", nil, nil)
	copyBytes        = prometheus.NewDesc("redisidem_copy_bytes", "Memory of the copies of finished records.", nil, nil)
	copyLookups      = prometheus.NewDesc("redisidem_copy_lookups_total", "Calls that looked for a copy.", []string{"hit"}, nil)

	redisUp     = prometheus.NewDesc("redisidem_redis_up", "1 if Redis acknowledged a write at the last look.", nil, nil)
	redisCheck  = prometheus.NewDesc("redisidem_redis_check", "Worst verdict: 1 good, 2 undetermined, 3 warning, 4 failure.", []string{"subject"}, nil)
	lookFailed  = prometheus.NewDesc("redisidem_look_failed", "1 if the last look at this part of Redis failed, so that its metrics are missing.", []string{"part"}, nil)
	deadLetters = prometheus.NewDesc("redisidem_dead_letters", "Keys that a completer gave up.", []string{"flow"}, nil)
	due         = prometheus.NewDesc("redisidem_due", "Keys that a completer will continue.", []string{"flow"}, nil)
	overdue     = prometheus.NewDesc("redisidem_overdue", "Keys that a completer may continue already.", []string{"flow"}, nil)
)

// watchDescs describe the metrics of a watch.
var watchDescs = []*prometheus.Desc{
	leasesHeld, stagesHung, commitsPending, giveBacksPending, copiesHeld, copyBytes, copyLookups, redisUp, redisCheck, lookFailed, deadLetters, due, overdue,
}

// maxRemembered bounds the flows that a watch remembers. A look costs a server about 2 ms for each.
const maxRemembered = 128

// watch collects the numbers of a service.
type watch struct {
	service *redisidem.Service
	cfg     *Config

	mu    sync.Mutex // one scrape asks, and the others wait for it
	asked time.Time
	redis []prometheus.Metric // from the last time
	// scanned are flows that completers have scanned. They are counted also when no completer scans
	// them any more, because that is when their keys become overdue.
	scanned map[string]bool
}

// Watch adds the numbers of a service. A second call replaces the first one's service. Call it
// before the first scrape. The service may be closed while it is watched.
func (m *Metrics) Watch(svc *redisidem.Service) {
	m.watched.Store(&watch{service: svc, cfg: &m.cfg, scanned: make(map[string]bool)})
}

func (w *watch) collect(to chan<- prometheus.Metric) {
	stats := w.service.ProcessStats()
	to <- gauge(leasesHeld, float64(stats.LeasesHeld))
	to <- gauge(stagesHung, float64(stats.StagesHung))
	to <- gauge(commitsPending, float64(stats.CommitsPending))
	to <- gauge(giveBacksPending, float64(stats.GiveBacksPending))
	to <- gauge(copiesHeld, float64(stats.Copies))
	to <- gauge(copyBytes, float64(stats.CopyBytes))
	to <- counter(copyLookups, stats.CopyHits, "true")
	to <- counter(copyLookups, stats.CopyMisses, "false")
	if w.cfg.Interval < 0 {
		return
	}
	for _, metric := range w.ofRedis() {
		to <- metric
	}
}

// ofRedis returns the numbers of Redis, and asks for them if they are too old.
func (w *watch) ofRedis() []prometheus.Metric {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.asked.IsZero() && time.Since(w.asked) < w.cfg.Interval {
		return w.redis
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.cfg.Timeout)
	defer cancel()
	w.redis = w.ask(ctx)
	w.asked = time.Now()
	return w.redis
}

// ask asks Redis. Numbers that it does not get are missing.
func (w *watch) ask(ctx context.Context) []prometheus.Metric {
	if err := w.service.Probe(ctx); err != nil {
		return []prometheus.Metric{gauge(redisUp, 0)}
	}
	flows, noFlows := w.askFlows(ctx)
	check, noCheck := w.askCheck(ctx)
	return append(slices.Concat(flows, check), gauge(redisUp, 1), failed("flows", noFlows), failed("check", noCheck))
}

// askFlows counts the indexes of flows: of those in Config.Flows, of those that completers have
// scanned lately, and of those that it remembers.
func (w *watch) askFlows(ctx context.Context) ([]prometheus.Metric, error) {
	names := slices.AppendSeq(slices.Clone(w.cfg.Flows), maps.Keys(w.scanned))
	indexes, err := redisidem.NewInspector(w.service).FlowIndexes(ctx, names...)
	if err != nil {
		return nil, err
	}
	var all []prometheus.Metric
	for _, i := range indexes {
		if len(w.scanned) < maxRemembered && !slices.Contains(w.cfg.Flows, i.Name) {
			w.scanned[i.Name] = true
		}
		all = append(all, gauge(deadLetters, float64(i.Dead), i.Name), gauge(due, float64(i.Due), i.Name), gauge(overdue, float64(i.Overdue), i.Name))
	}
	return all, nil
}

// askCheck returns the worst verdict about each subject.
func (w *watch) askCheck(ctx context.Context) ([]prometheus.Metric, error) {
	report, err := w.service.Check(ctx)
	if err != nil {
		return nil, err
	}
	worst := make(map[string]redisidem.Verdict)
	for _, f := range report.Findings {
		worst[f.Subject] = max(worst[f.Subject], f.Verdict)
	}
	var all []prometheus.Metric
	for subject, verdict := range worst {
		all = append(all, gauge(redisCheck, float64(verdict), subject))
	}
	return all, nil
}

// failed reports whether a part could not be read.
func failed(part string, err error) prometheus.Metric {
	if err != nil {
		return gauge(lookFailed, 1, part)
	}
	return gauge(lookFailed, 0, part)
}

func counter[N int64 | uint64](desc *prometheus.Desc, n N, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
}

func gauge(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}
