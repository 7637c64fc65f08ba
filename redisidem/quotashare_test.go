package redisidem_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestQuotaSmallerThanTheNumberOfProcesses sends one request after another, each to another
// process, without a pause.
func TestQuotaSmallerThanTheNumberOfProcesses(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.QuotaConfig{InFlight: 1, Stored: 200}
		var qs []*redisidem.Quota
		for range 4 {
			qs = append(qs, b.quota(cfg))
		}
		for i := range 100 {
			done := admitted(b, qs[i%4], "acme")
			_ = refused(b, qs[(i+1)%4], "acme")
			done(i%2 == 0)
			time.Sleep(60 * time.Millisecond)
			admitted(b, qs[(i+2)%4], "acme")(false) // which follows at once
			admitted(b, qs[(i+3)%4], "acme")(false)
		}
	})
}

func TestQuotaHoldsRecordsToTheLimit(t *testing.T) {
	for _, limit := range []int{1, 3, 16, 100, 1000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				cfg := redisidem.QuotaConfig{Stored: limit, Window: time.Hour}
				qs := []*redisidem.Quota{b.quota(cfg), b.quota(cfg), b.quota(cfg)}
				use := func() (n int) {
					for _, q := range qs {
						for range limit + 1 {
							done, err := q.Admit(ctx, "acme")
							if err != nil {
								break
							}
							done(n%3 > 0 || limit < 4)
							n++
							if limit >= 4 && (n-1)%3 == 0 {
								n--
								admitted(b, q, "acme")(true)
								n++
							}
						}
						time.Sleep(7 * time.Second)
					}
					return n
				}
				between(b, "records", use(), limit-limit/8, limit)
				refusal := refused(b, qs[0], "acme")
				if refusal.What != "stored keys" || refusal.Limit != limit {
					b.Errorf("%+v", refusal)
				}
				time.Sleep(59 * time.Minute)
				_ = refused(b, qs[1], "acme")
				time.Sleep(6 * time.Minute)
				between(b, "records after the window", use(), limit-limit/8, limit)
			})
		})
	}
}

// TestQuotaSaysWhenRecordsStopCounting looks at RetryAfter.
func TestQuotaSaysWhenRecordsStopCounting(t *testing.T) {
	inBubble(t, func(b *bubble) {
		q := b.quota(redisidem.QuotaConfig{Stored: 2, Window: time.Hour})
		for range 2 {
			admitted(b, q, "acme")(true)
		}
		time.Sleep(10 * time.Second)
		full := refused(b, q, "acme").RetryAfter
		if full < 59*time.Minute || full > 64*time.Minute {
			b.Errorf("RetryAfter is %v", full)
		}
		time.Sleep(full - time.Second)
		_ = refused(b, q, "acme")
		time.Sleep(2 * time.Second)
		done := admitted(b, q, "acme")
		stays := admitted(b, q, "acme")
		if after := refused(b, q, "acme").RetryAfter; after != time.Second {
			b.Errorf("RetryAfter is %v while requests may make no record", after)
		}
		done(false)
		stays(false)
	})
}
