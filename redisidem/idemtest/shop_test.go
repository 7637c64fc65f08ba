package idemtest

import (
	"context"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// shop is a World with a payment provider that charges once for each idempotency key, and a mail
// server without idempotency.
type shop struct {
	mu      sync.Mutex
	charges map[string]int
	counts  map[string]int
}

func newShop() *shop { return &shop{charges: make(map[string]int), counts: make(map[string]int)} }

func (s *shop) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

// charge charges once for each key.
func (s *shop) charge(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.charges[key]++
	if s.charges[key] == 1 {
		s.counts["charge"]++
	}
}

func (s *shop) refund(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.charges[key] > 0 {
		s.charges[key] = 0
		s.counts["refund"]++
	}
}

func (s *shop) charged(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.charges[key] > 0
}

func (s *shop) effects() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

var buy = redisidem.Request{Method: "POST", Path: "/carts/1/complete", Params: map[string]int{"cart": 1}}

type (
	outcome = redisidem.Outcome
	stage   = redisidem.FlowStage
)

// checkout is a correct flow.
func checkout(s *shop) redisidem.FlowConfig {
	return redisidem.FlowConfig{Name: "checkout", Version: 1, RecoverAfter: time.Minute, Stages: []stage{
		{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (outcome, error) {
			return redisidem.Next().WithState(1200), nil
		}},
		{
			Point: "tax_lines_created",
			Work: func(_ context.Context, st *redisidem.Stage) (outcome, error) {
				s.charge(st.OutboundKey("charge"))
				return redisidem.Next(), nil
			},
			Reconcile: func(_ context.Context, st *redisidem.Stage) (outcome, error) {
				if !s.charged(st.OutboundKey("charge")) {
					return outcome{}, redisidem.ErrNothingDone
				}
				return redisidem.Next(), nil
			},
			Compensate: func(_ context.Context, st *redisidem.Stage) error {
				s.refund(st.CommittedKey(st.Compensates(), "charge"))
				return nil
			},
		},
		{Point: "payment_authorized", Work: func(_ context.Context, st *redisidem.Stage) (outcome, error) {
			var cents int
			if err := st.State(&cents); err != nil {
				return outcome{}, err
			}
			s.count("mail")
			return redisidem.Finish(redisidem.JSON(201, map[string]any{"order": 1, "cents": cents})).
				WithEffects(effect.XAdd(st.ShardKey("outbox"), "event", "ordered")), nil
		}},
	}}
}

// crashes returns the configuration of a matrix over a flow in a shop.
func crashes(flow func(*shop) redisidem.FlowConfig, promise map[string]Times) CrashConfig {
	return CrashConfig{
		World: func(testing.TB) World {
			s := newShop()
			return World{
				Flow:    func() (*redisidem.Flow, error) { return redisidem.NewFlow(flow(s)) },
				Request: buy,
				Effects: s.effects,
			}
		},
		Promise: promise,
	}
}

var sold = map[string]Times{"charge": Exactly(1), "mail": AtLeast(1)}

// declined is a checkout that fails at its last stage.
func declined(s *shop) redisidem.FlowConfig {
	cfg := checkout(s)
	cfg.Stages[0].Compensate = func(context.Context, *redisidem.Stage) error { s.count("release"); return nil }
	cfg.Stages[2].Work = func(context.Context, *redisidem.Stage) (outcome, error) {
		return redisidem.Fail(redisidem.JSON(402, "declined")), nil
	}
	return cfg
}
