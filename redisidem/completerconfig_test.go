package redisidem_test

import (
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestInvalidCompletersAreRefused(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		flow := mustFlow(b, cart(recoverable))
		one := []*redisidem.Flow{flow}
		for _, c := range []struct {
			svc   *redisidem.Service
			flows []*redisidem.Flow
			cfg   *redisidem.CompleterConfig
			field string
			word  string
		}{
			{nil, one, nil, "svc", "nil"},
			{svc, nil, nil, "flows", "empty"},
			{svc, []*redisidem.Flow{flow, nil}, nil, "flows[1]", "nil"},
			{svc, []*redisidem.Flow{flow, flow}, nil, "flows[1]", "cart/1"},
			{svc, []*redisidem.Flow{mustFlow(b, cart())}, nil, "flows[0]", "RecoverAfter"},
			{svc, one, &redisidem.CompleterConfig{Concurrency: -1}, "CompleterConfig.Concurrency", "at least 1"},
			{svc, one, &redisidem.CompleterConfig{Interval: -1}, "CompleterConfig.Interval", "negative"},
		} {
			_, err := redisidem.NewCompleter(c.svc, c.flows, c.cfg)
			mustBeInvalid(b, err, c.field, c.word)
		}
	})
}
