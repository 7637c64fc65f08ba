package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// flowWith returns the checkout's flow with something that happens when a stage has done its work.
func (m *market) flowWith(point string, after func(ctx context.Context)) *redisidem.Flow {
	m.Helper()
	cfg := m.checkout.flow.Config()
	for i := range cfg.Stages {
		if s := &cfg.Stages[i]; s.Point == point {
			work := s.Work
			s.Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				o, err := work(ctx, st)
				after(ctx)
				return o, err
			}
		}
	}
	flow, err := redisidem.NewFlow(cfg)
	if err != nil {
		m.Fatal(err)
	}
	return flow
}

// work completes a cart with a flow.
func (m *market) work(cart, key string, flow *redisidem.Flow) (*redisidem.Key, error) {
	r := redisidem.Request{Method: http.MethodPost, Path: "/store/carts/" + cart + "/complete", Params: request{Cart: cart}}
	return m.service.Scope(cart).DoFlow(m.Context(), key, r, flow)
}

// must completes a cart with a flow, and checks the answer.
func (m *market) must(cart, key string, flow *redisidem.Flow, status int, text string) {
	m.Helper()
	k, err := m.work(cart, key, flow)
	if err != nil {
		m.Fatal(err)
	}
	if !k.Finished() || k.Response.Code != status || !strings.Contains(string(k.Response.Body), text) {
		m.Errorf("the key %q got %d %s, want %d with %q", key, k.Response.Code, k.Response.Body, status, text)
	}
}

func (m *market) exec(statement string, args ...any) {
	m.Helper()
	if _, err := m.shop.db.ExecContext(m.Context(), statement, args...); err != nil {
		m.Fatal(err)
	}
}

// TestKeyThatWasUndoneIsANewOneAfterALoss has a customer who withdraws before the payment, and
// changes the cart. When Redis has lost the key, its first stage runs again, because it was undone:
// nothing is charged for a cart that the key does not hold.
func TestKeyThatWasUndoneIsANewOneAfterALoss(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		for name, ordered := range map[string]bool{"the cart is free": false, "another key has ordered it": true} {
			t.Run(name, func(t *testing.T) {
				m := newMarketOn(t, url, nil)
				cart := m.fill(tokenOK, "book")
				withdraw := func(context.Context) {
					if err := m.checkout.withdraw(m.Context(), cart); err != nil {
						m.Error(err)
					}
				}
				if k, err := m.work(cart, "late", m.flowWith(redisidem.Started, withdraw)); !errors.Is(err, redisidem.ErrFenced) {
					t.Fatal(k, err)
				}
				m.redis.FastForward(redisidem.DefaultLease)
				m.must(cart, "late", m.checkout.flow, http.StatusGone, "withdrawn")
				if a := m.post("/store/carts/"+cart+"/line-items", "", `{"variant_id": "lamp", "quantity": 1}`); a.status != http.StatusOK {
					t.Fatal(a)
				}
				if ordered {
					if a := m.complete(cart, "other"); a.status != http.StatusOK {
						t.Fatal(a)
					}
				}
				if err := m.redis.Client().FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				m.must(cart, "late", m.checkout.flow, http.StatusOK, `"type":"order"`)
				m.ledger(cart, 1, 0, 1, 1)
			})
		}
	})
}

// TestPaymentWithoutItsOrderIsVoided has a cart that changes hands while a key is at its payment,
// because Redis has gone back to an earlier state of the key.
func TestPaymentWithoutItsOrderIsVoided(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		for _, c := range []struct {
			name, change, text string
			status             int
			orders             int64
		}{
			{"it is free", "UPDATE carts SET holder = '' WHERE id = $1", "cart_released", http.StatusConflict, 0},
			{"another key holds it", "UPDATE carts SET holder = 'other' WHERE id = $1", "cart_released", http.StatusConflict, 0},
			{
				"it has another payment's order", "INSERT INTO orders (id, cart, payment, cents) VALUES ('order_1', $1, 'pay_other', 1)",
				"pay_other", http.StatusOK, 1,
			},
		} {
			t.Run(c.name, func(t *testing.T) {
				m := newMarketOn(t, url, nil)
				cart := m.fill(tokenOK, "book")
				flow := m.flowWith(paymentRequested, func(context.Context) {
					m.exec("DELETE FROM tax_lines WHERE cart = $1", cart)
					m.exec(c.change, cart)
				})
				m.must(cart, "key", flow, c.status, c.text)
				m.ledger(cart, 1, 1, c.orders, 0)
			})
		}
	})
}

// slowRoad delays the first charge on its way to the provider for longer than its caller waits.
type slowRoad struct {
	http.RoundTripper
	delayed *http.Request // a copy
	began   func()
}

func (s *slowRoad) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.delayed != nil || r.URL.Path != "/payments" {
		return s.RoundTripper.RoundTrip(r)
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	s.delayed = r.Clone(context.WithoutCancel(r.Context()))
	s.delayed.Body = body
	s.began()
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// beforeTimeout is a deadline that passes before the payment's Timeout of 2 s, and late enough for
// the checkout to come to its payment on a busy machine.
const beforeTimeout = 1500 * time.Millisecond

// TestDelayedChargeIsNotKept has a charge that reaches the provider after the checkout was undone.
func TestDelayedChargeIsNotKept(t *testing.T) {
	t.Parallel()
	for kind, end := range map[string]func(m *market, cart string){
		"expired": func(*market, string) {}, // the deadline passes while the charge is under way
		"withdrawn": func(m *market, cart string) {
			if err := m.checkout.withdraw(m.Context(), cart); err != nil {
				m.Error(err)
			}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			m := newMarket(t, &redisidem.Config{Lease: 600 * time.Millisecond})
			if kind == "expired" {
				m.checkout.confirmWithin = beforeTimeout
			}
			flow, err := m.checkout.newFlow()
			if err != nil {
				t.Fatal(err)
			}
			cart := m.fill(tokenOK, "book")
			road := &slowRoad{RoundTripper: m.payments.client.Transport, began: func() { end(m, cart) }}
			m.payments.client.Transport = road
			if kind == "withdrawn" {
				if k, err := m.work(cart, "key", flow); err == nil {
					t.Fatalf("%+v", k)
				}
				m.redis.FastForward(redisidem.DefaultLease)
			}
			m.must(cart, "key", flow, http.StatusGone, kind)
			if road.delayed == nil {
				t.Fatal("no charge was sent")
			}
			res, err := road.RoundTripper.RoundTrip(road.delayed)
			if err != nil {
				t.Fatal(err)
			}
			if err := res.Body.Close(); err != nil {
				t.Error(err)
			}
			m.ledger(cart, 0, 0, 0, 0)
		})
	}
}

// TestChargeWithoutAnAnswerIsVoided has a deadline that passes when the provider has charged and
// has not answered.
func TestChargeWithoutAnAnswerIsVoided(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	m.checkout.confirmWithin = beforeTimeout
	flow, err := m.checkout.newFlow()
	if err != nil {
		t.Fatal(err)
	}
	cart := m.fill(tokenTimeout, "book")
	m.must(cart, "key", flow, http.StatusGone, "expired")
	m.ledger(cart, 1, 1, 0, 0)
}

// TestKeyThatCameSecondGetsTheOrderAfterItsDeadline has a key that joined and comes back late.
func TestKeyThatCameSecondGetsTheOrderAfterItsDeadline(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(m *market){
		"its deadline": func(m *market) { m.redis.FastForward(m.checkout.confirmWithin) },
		"its holder is lost": func(m *market) {
			if err := m.redis.Client().FlushAll(m.Context()).Err(); err != nil {
				m.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMarket(t, nil)
			cart := m.fill(token3DS, "book")
			q := m.ask(cart, "first")
			if other := m.ask(cart, "second"); other != q {
				t.Error(other)
			}
			if _, err := m.payments.confirm(t.Context(), q.Payment); err != nil {
				t.Fatal(err)
			}
			first := m.complete(cart, "first")
			wait(m)
			second := m.complete(cart, "second")
			if first.status != http.StatusOK || second.status != http.StatusOK || second.body != first.body {
				t.Fatalf("%v, want %v", second, first)
			}
			m.replays(cart, "second", first)
			m.ledger(cart, 1, 0, 1, 1)
		})
	}
}

// TestAnswerOfAFailedCheckoutThatCannotSeeTheOrders has a shop whose database is away.
func TestAnswerOfAFailedCheckoutThatCannotSeeTheOrders(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(token3DS, "book")
	_, _ = m.ask(cart, "first"), m.ask(cart, "second")
	m.exec("ALTER TABLE orders RENAME TO hidden")
	m.redis.FastForward(m.checkout.confirmWithin)
	if a := m.complete(cart, "second"); a.status != http.StatusGone || !strings.Contains(a.body, `"ended"`) {
		t.Error(a)
	}
}

// TestOrderIsNotUndone has a customer who withdraws from a checkout that begins again, because
// Redis has lost its key after the order.
func TestOrderIsNotUndone(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		for _, point := range []string{redisidem.Started, taxLinesCreated, paymentRequested} {
			t.Run(point, func(t *testing.T) {
				m := newMarketOn(t, url, nil)
				cart := m.fill(tokenOK, "book")
				m.must(cart, "key", m.checkout.flow, http.StatusOK, `"order"`)
				if err := m.redis.Client().FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				withdraw := func(context.Context) {
					if err := m.checkout.withdraw(m.Context(), cart); err != nil {
						t.Error(err)
					}
				}
				if k, err := m.work(cart, "key", m.flowWith(point, withdraw)); !errors.Is(err, redisidem.ErrFenced) {
					t.Fatal(k, err)
				}
				m.redis.FastForward(redisidem.DefaultLease)
				m.must(cart, "key", m.checkout.flow, http.StatusOK, `"order"`)
				m.ledger(cart, 1, 0, 1, 1)
				if key, err := m.shop.holder(t.Context(), cart); err != nil || key != "key" {
					t.Errorf("the cart is held by %q, %v", key, err)
				}
			})
		}
	})
}

// outage is a way to the provider on which nothing arrives while it is set.
type outage struct {
	http.RoundTripper
	is bool
}

func (o *outage) RoundTrip(r *http.Request) (*http.Response, error) {
	if o.is {
		return nil, errors.New("the provider is away")
	}
	return o.RoundTripper.RoundTrip(r)
}

// TestImpatientClientDoesNotUseUpTheKey has a client that retries often while the provider is away.
// The checkout is undone when its time is over, and when the provider is back.
func TestImpatientClientDoesNotUseUpTheKey(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	provider := &outage{m.payments.client.Transport, true}
	m.payments.client.Transport = provider
	m.checkout.recoverAfter = time.Second
	flow, err := m.checkout.newFlow()
	if err != nil {
		t.Fatal(err)
	}
	completer, err := redisidem.NewCompleter(m.service, []*redisidem.Flow{flow}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cart := m.fill(tokenOK, "book")
	retry := func() {
		t.Helper()
		for range redisidem.DefaultMaxAttempts + 1 {
			if k, err := m.work(cart, "key", flow); err == nil {
				t.Fatalf("%+v", k)
			}
		}
	}
	sweep := func(want redisidem.SweepResult) {
		t.Helper()
		if got, err := completer.Sweep(t.Context()); got != want {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
	}
	retry()
	m.redis.FastForward(10 * time.Minute)
	sweep(redisidem.SweepResult{Due: 1, Failed: 1})
	m.redis.FastForward(m.checkout.confirmWithin)
	retry() // the payment cannot be voided
	m.redis.FastForward(10 * time.Minute)
	sweep(redisidem.SweepResult{Due: 1, Failed: 1})
	provider.is = false
	m.redis.FastForward(10 * time.Minute)
	sweep(redisidem.SweepResult{Due: 1, Finished: 1})
	m.must(cart, "key", flow, http.StatusGone, "expired")
	m.ledger(cart, 0, 0, 0, 0)
}
