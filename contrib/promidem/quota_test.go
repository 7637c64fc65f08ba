package promidem_test

import (
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestQuotaIsWatched(t *testing.T) {
	w := setUp(t, nil)
	if got := w.scrape("redisidem_scope_"); got != "" {
		t.Errorf("without a quota there are %s", got)
	}
	quota, err := redisidem.NewQuota(w.service, redisidem.QuotaConfig{InFlight: 4, Stored: 8, Window: time.Hour})
	w.must(err)
	defer func() { w.must(quota.Close(ctx)) }()
	w.metrics.WatchQuota(quota)
	first, err := quota.Admit(ctx, "acme")
	w.must(err)
	defer first(true)
	second, err := quota.Admit(ctx, "acme") // its call says what the first request uses
	w.must(err)
	defer second(true)
	want := "redisidem_scope_alone_total{} 0\n" +
		"redisidem_scope_calls_total{result=answered} 2\nredisidem_scope_calls_total{result=failed} 0\n" +
		"redisidem_scope_refused_total{} 0\nredisidem_scope_shares{} 1\n" +
		"redisidem_scope_use_ratio{quota=in-flight} 0.25\nredisidem_scope_use_ratio{quota=keys} 0"
	if got := w.scrape("redisidem_scope_"); got != want {
		t.Errorf("there are\n%s\nwant\n%s", got, want)
	}
}
