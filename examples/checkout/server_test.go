package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// market is a shop and its payment provider within the test's process, on an embedded Redis.
type market struct {
	*testing.T
	url      string // of the shop
	shop     *shop
	provider *provider
	payments *payments
	checkout *checkout
	redis    *idemtest.Server
	service  *redisidem.Service
	log      logged
}

// logged is what the shop has logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newMarket(t *testing.T, cfg *redisidem.Config) *market {
	t.Helper()
	return newMarketOn(t, "", cfg)
}

// newMarketOn makes a market whose shop is in the database at that URL, or else in SQLite.
func newMarketOn(t *testing.T, url string, cfg *redisidem.Config) *market {
	t.Helper()
	m := &market{T: t, redis: idemtest.NewServer(t)}
	m.service = m.redis.Service(cfg)
	dir := t.TempDir()
	var err error
	if m.provider, err = openProvider(t.Context(), filepath.Join(dir, "provider.db")); err != nil {
		t.Fatal(err)
	}
	if m.shop, err = openShop(t.Context(), url, dir); err != nil {
		t.Fatal(err)
	}
	bank := httptest.NewServer(m.provider.handler())
	m.payments = &payments{url: bank.URL, client: bank.Client()}
	m.checkout = &checkout{
		service: m.service, shop: m.shop, payments: m.payments, confirmWithin: time.Hour, askEvery: time.Minute,
		crash: func() { panic(http.ErrAbortHandler) },
	}
	if m.checkout.flow, err = m.checkout.newFlow(); err != nil {
		t.Fatal(err)
	}
	h, err := newServer(m.checkout, slog.New(slog.NewTextHandler(&m.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	m.url = server.URL
	t.Cleanup(func() {
		server.Close()
		bank.CloseClientConnections() // it may be keeping a caller waiting
		bank.Close()
		for _, end := range []func() error{m.shop.close, m.provider.close} {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	})
	return m
}

// response is an answer of the shop's.
type response struct {
	status int
	header http.Header
	body   string
}

// send sends a request. The key may be empty, and the error is for those who expect one.
func (m *market) send(path, key, body string) (response, error) {
	r, err := http.NewRequestWithContext(m.Context(), http.MethodPost, m.url+path, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	r.Close = true // on a connection that was used before, Go's client would send a request with a key again by itself
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header, string(text)}, err
}

func (m *market) post(path, key, body string) response {
	m.Helper()
	a, err := m.send(path, key, body)
	if err != nil {
		m.Fatal(err)
	}
	return a
}

// fill makes a cart.
func (m *market) fill(token, variant string) string {
	m.Helper()
	var made struct{ Cart struct{ ID string } }
	if err := json.Unmarshal([]byte(m.post("/store/carts", "", "").body), &made); err != nil {
		m.Fatal(err)
	}
	for path, body := range map[string]string{
		"line-items": `{"variant_id": "` + variant + `", "quantity": 1}`, "payment-sessions": `{"token": "` + token + `"}`,
	} {
		if a := m.post("/store/carts/"+made.Cart.ID+"/"+path, "", body); a.status != http.StatusOK {
			m.Fatal(a)
		}
	}
	return made.Cart.ID
}

func (m *market) complete(cart, key string) response {
	m.Helper()
	return m.post("/store/carts/"+cart+"/complete", key, "")
}

// ledger checks how often a cart was charged, how much of that was given back, and how many orders
// and tax lines there are.
func (m *market) ledger(cart string, charged, voided, orders, taxLines int64) {
	m.Helper()
	c, v, err := m.provider.counts(m.Context(), cart)
	if err != nil {
		m.Fatal(err)
	}
	counts, err := m.shop.counts(m.Context(), cart)
	if err != nil {
		m.Fatal(err)
	}
	if c != charged || v != voided || counts["orders"] != orders || counts["tax_lines"] != taxLines {
		m.Errorf("%d charged, %d voided, %d orders, %d tax lines; want %d, %d, %d and %d", c, v, counts["orders"], counts["tax_lines"],
			charged, voided, orders, taxLines)
	}
}

// replays checks that a key is answered with the same bytes from now on.
func (m *market) replays(cart, key string, first response) {
	m.Helper()
	for range 2 {
		a := m.complete(cart, key)
		if a.status != first.status || a.body != first.body || a.header.Get("Idempotency-Replayed") != "true" {
			m.Errorf("a retry got %v, want %v", a, first)
		}
	}
}

func TestPaymentMethods(t *testing.T) {
	onEach(t, testPaymentMethods)
}

func testPaymentMethods(t *testing.T, url string) {
	t.Helper()
	for _, c := range []struct {
		token, variant                    string
		status                            int
		text                              string
		charged, voided, orders, taxLines int64
	}{
		{tokenOK, "book", http.StatusOK, `"type":"order"`, 1, 0, 1, 1},
		{tokenDecline, "book", http.StatusPaymentRequired, "payment_declined", 0, 0, 0, 0},
		{tokenTimeout, "book", http.StatusOK, `"type":"order"`, 1, 0, 1, 1},
		{tokenOK, "unicorn", http.StatusConflict, "insufficient_inventory", 1, 1, 0, 0},
	} {
		t.Run(c.token+" "+c.variant, func(t *testing.T) {
			m := newMarketOn(t, url, nil)
			cart := m.fill(c.token, c.variant)
			first := m.complete(cart, "key")
			if first.status != c.status || !strings.Contains(first.body, c.text) || first.header.Get("Idempotency-Replayed") != "" {
				t.Fatal(first)
			}
			m.replays(cart, "key", first)
			m.ledger(cart, c.charged, c.voided, c.orders, c.taxLines)
		})
	}
}

func TestCrashAfterChargeIsNotChargedAgain(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(tokenCrash, "book")
	if a, err := m.send("/store/carts/"+cart+"/complete", "key", ""); err == nil {
		t.Fatal("there should have been no answer", a)
	}
	m.ledger(cart, 1, 0, 0, 1)
	first := m.complete(cart, "key")
	if first.status != http.StatusOK {
		t.Fatal(first)
	}
	m.replays(cart, "key", first)
	m.ledger(cart, 1, 0, 1, 1)
}

// confirm and refuse are the customer's answers to the provider, without the shop.
func (p *payments) confirm(ctx context.Context, id string) (payment, error) {
	return p.ask(ctx, http.MethodPost, "/payments/"+id+"/confirm", nil)
}

func (p *payments) refuse(ctx context.Context, id string) (payment, error) {
	return p.ask(ctx, http.MethodPost, "/payments/"+id+"/refuse", nil)
}

// asked is an interim answer: the customer has to confirm.
type asked struct {
	Status  string `json:"payment_status"`
	Payment string `json:"payment_id"`
	At      string `json:"confirm_at"`
}

// ask completes a cart whose payment has to be confirmed.
func (m *market) ask(cart, key string) (q asked) {
	m.Helper()
	a := m.complete(cart, key)
	if err := json.Unmarshal([]byte(a.body), &q); err != nil || q.Status != "requires_more" || a.status != http.StatusAccepted ||
		q.At != m.payments.url+"/payments/"+q.Payment+"/confirm" {
		m.Fatal(a, err)
	}
	return q
}

func TestConfirmationIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		polls            int
		answer           func(p *payments, ctx context.Context, id string) (payment, error)
		status           int
		charged, taxLine int64
	}{
		{"confirmed", 2, (*payments).confirm, http.StatusOK, 1, 1},
		{"refused", 2, (*payments).refuse, http.StatusPaymentRequired, 0, 0},
		{"refused after a long time", 70, (*payments).refuse, http.StatusPaymentRequired, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMarket(t, nil)
			cart := m.fill(token3DS, "book")
			var q asked
			for range c.polls { // the client may ask as often as it likes, in the meantime
				q = m.ask(cart, "key")
			}
			m.ledger(cart, 0, 0, 0, 1)
			if _, err := c.answer(m.payments, t.Context(), q.Payment); err != nil {
				t.Fatal(err)
			}
			first := m.complete(cart, "key")
			if first.status != c.status {
				t.Fatal(first)
			}
			m.replays(cart, "key", first)
			m.ledger(cart, c.charged, 0, c.charged, c.taxLine)
		})
	}
}

// TestConfirmationThatDoesNotCome looks at a customer who withdraws, and at one who does not come
// back: the payment is canceled, and the cart is free.
func TestConfirmationThatDoesNotCome(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		for kind, end := range map[string]func(m *market, cart string){
			"withdrawn": func(m *market, cart string) {
				for range 2 {
					if a := m.post("/store/carts/"+cart+"/withdraw", "", ""); a.status != http.StatusOK {
						m.Error(a)
					}
				}
			},
			"expired": func(m *market, _ string) { m.redis.FastForward(m.checkout.confirmWithin) },
		} {
			t.Run(kind, func(t *testing.T) {
				m := newMarketOn(t, url, nil)
				cart := m.fill(token3DS, "book")
				q := m.ask(cart, "key")
				other := m.ask(cart, "other")
				if q != other {
					t.Errorf("another key got %v, want %v", other, q)
				}
				end(m, cart)
				first := m.complete(cart, "key")
				if first.status != http.StatusGone || !strings.Contains(first.body, kind) {
					t.Fatal(first)
				}
				m.replays(cart, "key", first)
				if a := m.complete(cart, "other"); a.status != http.StatusGone || !strings.Contains(a.body, kind) {
					t.Error(a)
				}
				if made, err := m.payments.confirm(t.Context(), q.Payment); err != nil || made.State != stateCanceled {
					t.Errorf("the customer who confirms too late gets %v, %v", made, err)
				}
				m.ledger(cart, 0, 0, 0, 0)
				if a := m.post("/store/carts/"+cart+"/withdraw", "", ""); a.status != http.StatusConflict {
					t.Error(a)
				}
				if a := m.post("/store/carts/"+cart+"/payment-sessions", "", `{"token": "pm_ok"}`); a.status != http.StatusOK {
					t.Fatal(a)
				}
				if a := m.complete(cart, "fresh"); a.status != http.StatusOK {
					t.Error(a)
				}
				m.ledger(cart, 1, 0, 1, 1)
				if a := m.post("/store/carts/"+cart+"/withdraw", "", ""); a.status != http.StatusConflict { // too late
					t.Error(a)
				}
			})
		}
	})
}

// TestCompleterAsksForTheCustomer has a customer who confirms and whose client does not come back,
// and one who does not confirm.
func TestCompleterAsksForTheCustomer(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	m.checkout.recoverAfter = time.Second
	flow, err := m.checkout.newFlow()
	if err != nil {
		t.Fatal(err)
	}
	completer, err := redisidem.NewCompleter(m.service, []*redisidem.Flow{flow}, nil)
	if err != nil {
		t.Fatal(err)
	}
	complete := func(cart string) {
		t.Helper()
		r := redisidem.Request{Method: http.MethodPost, Path: "/store/carts/" + cart + "/complete", Params: request{Cart: cart}}
		key, err := m.service.Scope(cart).DoFlow(t.Context(), "key", r, flow)
		if err != nil || key.Finished() || key.SnoozedUntil.IsZero() {
			t.Fatalf("%+v, %v", key, err)
		}
	}
	sweep := func() {
		t.Helper()
		if _, err := completer.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	confirmed, forgotten := m.fill(token3DS, "book"), m.fill(token3DS, "book")
	complete(confirmed)
	complete(forgotten)
	if _, err := m.provider.db.ExecContext(t.Context(), "UPDATE payments SET state = ? WHERE paid_for = ?", stateCharged, confirmed); err != nil {
		t.Fatal(err)
	}
	sweep()
	m.ledger(confirmed, 1, 0, 0, 1) // not yet
	m.redis.FastForward(m.checkout.askEvery + time.Second)
	sweep()
	m.ledger(confirmed, 1, 0, 1, 1)
	m.ledger(forgotten, 0, 0, 0, 1)
	m.redis.FastForward(m.checkout.confirmWithin)
	sweep()
	m.ledger(forgotten, 0, 0, 0, 0)
}

// TestLateWorkerChangesNothing has a worker that is silent for longer than its lease, just before
// its transaction. Meanwhile the customer withdraws, and another worker undoes the checkout.
func TestLateWorkerChangesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		for point, charged := range map[string]int64{redisidem.Started: 0, paymentAuthorized: 1} {
			t.Run(point, func(t *testing.T) {
				m := newMarketOn(t, url, nil)
				cart := m.fill(tokenOK, "book")
				req := redisidem.Request{Method: http.MethodPost, Path: "/store/carts/" + cart + "/complete", Params: request{Cart: cart}}
				cfg, late := m.checkout.flow.Config(), true
				var flow *redisidem.Flow
				for i := range cfg.Stages {
					s := &cfg.Stages[i]
					work := s.Work
					s.Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
						if s.Point != point || !late {
							return work(ctx, st)
						}
						late = false
						m.redis.FastForward(redisidem.DefaultLease)
						other := m.redis.Service(nil).Scope(cart)
						if err := other.Cancel(m.Context(), "key"); err != nil {
							m.Error(err)
						}
						if key, err := other.DoFlow(m.Context(), "key", req, flow); err != nil || key.Response.Code != http.StatusGone {
							m.Errorf("the other worker got %+v, %v", key, err)
						}
						return work(context.WithoutCancel(ctx), st)
					}
				}
				flow, err := redisidem.NewFlow(cfg)
				if err != nil {
					t.Fatal(err)
				}
				if key, err := m.service.Scope(cart).DoFlow(t.Context(), "key", req, flow); !errors.Is(err, redisidem.ErrFenced) {
					t.Errorf("%+v, %v", key, err)
				}
				m.ledger(cart, charged, charged, 0, 0)
				if key, err := m.shop.holder(t.Context(), cart); !errors.Is(err, errNotCompleting) {
					t.Errorf("the cart is held by %q, %v", key, err)
				}
			})
		}
	})
}

// TestWithdrawDuringTheCharge withdraws while the provider is silent: it has charged, which the
// next worker finds out and takes back.
func TestWithdrawDuringTheCharge(t *testing.T) {
	t.Parallel()
	m := newMarket(t, &redisidem.Config{Lease: 600 * time.Millisecond})
	cart := m.fill(tokenTimeout, "book")
	slow := m.completeSlowly(cart, "key")
	if a := m.post("/store/carts/"+cart+"/withdraw", "", ""); a.status != http.StatusOK {
		t.Fatal(a)
	}
	<-slow
	var a response
	for range 2000 {
		if a = m.complete(cart, "key"); a.status == http.StatusGone {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !strings.Contains(a.body, "withdrawn") {
		t.Fatal(a)
	}
	m.replays(cart, "key", a)
	m.ledger(cart, 1, 1, 0, 0)
}

func TestCartIsChargedOnceWhateverTheKeys(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(tokenOK, "book")
	first := m.complete(cart, "first")
	// A client that made up a new key, and one that has none, get the order that there is.
	for _, key := range []string{"second", ""} {
		if a := m.complete(cart, key); a.status != http.StatusOK || a.body != first.body {
			t.Errorf("with the key %q: %v, want %v", key, a, first)
		}
	}
	m.ledger(cart, 1, 0, 1, 1)
	if n := m.waiting(); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestCartIsCompletedUnderOneKeyAtATime(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(token3DS, "book")
	q := m.ask(cart, "first")
	if other := m.ask(cart, "second"); other != q { // it waits for the customer, too
		t.Error(other)
	}
	// What is being paid for does not change meanwhile.
	for path, body := range map[string]string{"line-items": `{"variant_id": "lamp", "quantity": 9}`, "payment-sessions": `{"token": "pm_ok"}`} {
		if a := m.post("/store/carts/"+cart+"/"+path, "", body); a.status != http.StatusConflict {
			t.Error(path, a)
		}
	}
	if _, err := m.payments.refuse(t.Context(), q.Payment); err != nil {
		t.Fatal(err)
	}
	if a := m.complete(cart, "first"); a.status != http.StatusPaymentRequired {
		t.Fatal(a)
	}
	// Now the cart is free again: another card, and a new key.
	if a := m.post("/store/carts/"+cart+"/payment-sessions", "", `{"token": "pm_ok"}`); a.status != http.StatusOK {
		t.Fatal(a)
	}
	if a := m.complete(cart, "third"); a.status != http.StatusOK {
		t.Fatal(a)
	}
	m.ledger(cart, 1, 0, 1, 1)
}

// TestKeyThatCameSecondGetsTheOrder looks at two clients on one cart, and at the answer of the one
// that comes while the other works.
func TestKeyThatCameSecondGetsTheOrder(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(tokenTimeout, "book")
	slow := m.completeSlowly(cart, "first")
	for range 2 {
		a := m.complete(cart, "second")
		if a.status != http.StatusConflict || !strings.Contains(a.body, "cart_in_completion") || a.header.Get("Retry-After") == "" ||
			a.header.Get("Idempotency-Replayed") != "" {
			t.Error(a)
		}
	}
	first := <-slow
	if a := m.complete(cart, "second"); first.status != http.StatusOK || a.status != http.StatusOK || a.body != first.body {
		t.Errorf("%v, want %v", a, first)
	}
	m.replays(cart, "second", first)
	m.ledger(cart, 1, 0, 1, 1)
}

// TestKeyThatCameSecondBuysNothing looks at a key that was used while another one had the cart: it
// gets the other one's answer, however late it comes, and makes no order of a cart that may have
// changed.
func TestKeyThatCameSecondBuysNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, variant           string
		answer                  func(p *payments, ctx context.Context, id string) (payment, error)
		status                  int
		charged, voided, orders int64
	}{
		{"confirmed", "book", (*payments).confirm, http.StatusOK, 1, 0, 1},
		{"refused", "book", (*payments).refuse, http.StatusPaymentRequired, 0, 0, 0},
		{"sold out", "unicorn", (*payments).confirm, http.StatusConflict, 1, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMarket(t, nil)
			cart := m.fill(token3DS, c.variant)
			q := m.ask(cart, "first")
			for _, key := range []string{"second", "third"} { // each continues the first one
				if other := m.ask(cart, key); other != q {
					t.Error(other)
				}
			}
			if _, err := c.answer(m.payments, t.Context(), q.Payment); err != nil {
				t.Fatal(err)
			}
			second := m.complete(cart, "second")
			if second.status != c.status {
				t.Fatal(second)
			}
			m.replays(cart, "second", second)
			if n := m.waiting(); n != c.orders {
				t.Errorf("%d events for %d orders", n, c.orders)
			}
			m.replays(cart, "first", second)
			m.redis.FastForward(m.checkout.confirmWithin - time.Minute)
			if a := m.complete(cart, "third"); a.status != c.status || a.body != second.body {
				t.Errorf("%v, want %v", a, second)
			}
			m.ledger(cart, c.charged, c.voided, c.orders, c.orders)
		})
	}
}

// TestKeyThatCameSecondToALostOne looks at a cart whose holder Redis has lost.
func TestKeyThatCameSecondToALostOne(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(token3DS, "book")
	q := m.ask(cart, "first")
	if err := m.redis.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if a := m.complete(cart, "second"); a.status != http.StatusConflict || !strings.Contains(a.body, "cart_in_completion") {
		t.Error(a)
	}
	if again := m.ask(cart, "first"); again != q {
		t.Errorf("%v, want %v", again, q)
	}
	m.ledger(cart, 0, 0, 0, 1)
}

func TestLastOneIsSoldOnce(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		m := newMarketOn(t, url, nil)
		if _, err := m.shop.db.ExecContext(t.Context(), "UPDATE products SET stock = 1 WHERE variant = 'unicorn'"); err != nil {
			t.Fatal(err)
		}
		answers := make([]response, 4)
		var wg sync.WaitGroup
		for i := range answers {
			cart := m.fill(tokenOK, "unicorn")
			wg.Go(func() {
				var err error
				if answers[i], err = m.send("/store/carts/"+cart+"/complete", "key", ""); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		sold := 0
		for _, a := range answers {
			if a.status == http.StatusOK {
				sold++
			} else if !strings.Contains(a.body, "insufficient_inventory") {
				t.Error(a)
			}
		}
		if sold != 1 {
			t.Errorf("%d were sold", sold)
		}
	})
}

func TestRedisThatForgotDoesNotChargeAgain(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	for _, token := range []string{tokenOK, token3DS} {
		cart := m.fill(token, "book")
		if token == token3DS {
			for range 3 {
				_ = m.ask(cart, "key")
			}
			if _, err := m.payments.confirm(t.Context(), m.ask(cart, "key").Payment); err != nil {
				t.Fatal(err)
			}
		}
		first := m.complete(cart, "key")
		if err := m.redis.Client().FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"another", "key"} {
			if a := m.complete(cart, key); a.status != http.StatusOK || a.body != first.body {
				t.Errorf("%s with %s: %v, want %v", token, key, a, first)
			}
		}
		m.ledger(cart, 1, 0, 1, 1)
	}
	if n := m.waiting(); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

// completeSlowly completes a cart whose provider is silent, and returns when the request is at its
// payment, for which it needs seconds.
func (m *market) completeSlowly(cart, key string) <-chan response {
	m.Helper()
	slow := make(chan response, 1)
	go func() {
		a, err := m.send("/store/carts/"+cart+"/complete", key, "")
		if err != nil {
			m.Error(err)
		}
		slow <- a
	}()
	awaitCharge(m.T, m.provider, cart)
	return slow
}

// awaitCharge waits until the provider has charged for a cart.
func awaitCharge(t *testing.T, p *provider, cart string) {
	t.Helper()
	for range 4000 {
		charged, _, err := p.counts(t.Context(), cart)
		if err != nil {
			t.Fatal(err)
		}
		if charged == 1 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the cart is not charged")
}

func TestSecondRequestGetsARetryAfter(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(tokenTimeout, "book")
	slow := m.completeSlowly(cart, "key")
	if a := m.complete(cart, "key"); a.status != http.StatusConflict || a.header.Get("Retry-After") == "" {
		t.Error(a)
	}
	m.replays(cart, "key", <-slow)
	m.ledger(cart, 1, 0, 1, 1)
}

func TestRequestsThatCannotBeServed(t *testing.T) {
	t.Parallel()
	m := newMarket(t, &redisidem.Config{Timeout: 2 * time.Second})
	cart := m.fill(tokenOK, "book")
	empty, err := m.shop.createCart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unpaid, err := m.shop.createCart(t.Context())
	if err == nil {
		err = m.shop.addItem(t.Context(), unpaid, "book", 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	complete := "/store/carts/" + cart + "/complete"
	m.complete(cart, "used")
	for _, c := range []struct {
		name, path, key, body string
		status                int
	}{
		{"another request", complete, "used", "another body", http.StatusUnprocessableEntity},
		{"a malformed key", complete, "a, b", "", http.StatusBadRequest},
		{"an unknown cart", "/store/carts/cart_0/complete", "key", "", http.StatusNotFound},
		{"an empty cart", "/store/carts/" + empty + "/complete", "key", "", http.StatusBadRequest},
		{"no payment session", "/store/carts/" + unpaid + "/complete", "key", "", http.StatusBadRequest},
		{"an item for an unknown cart", "/store/carts/cart_0/line-items", "", `{"variant_id": "book", "quantity": 1}`, http.StatusNotFound},
		{"an unknown item", "/store/carts/" + empty + "/line-items", "", `{"variant_id": "air", "quantity": 1}`, http.StatusNotFound},
		{"no items", "/store/carts/" + empty + "/line-items", "", `{"variant_id": "book"}`, http.StatusBadRequest},
		{"no item", "/store/carts/" + empty + "/line-items", "", `book`, http.StatusBadRequest},
		{"no payment session", "/store/carts/" + empty + "/payment-sessions", "", `pm_ok`, http.StatusBadRequest},
		{"no chosen session", "/store/carts/" + empty + "/payment-session", "", `{}`, http.StatusBadRequest},
		{"an unknown cart to look at", "/store/carts/cart_0/payment-sessions", "", "", http.StatusNotFound},
		{"a token for an unknown cart", "/store/carts/cart_0/payment-sessions", "", `{"token": "pm_ok"}`, http.StatusNotFound},
	} {
		if a := m.post(c.path, c.key, c.body); a.status != c.status {
			t.Errorf("%s: %v, want %d", c.name, a, c.status)
		}
	}

	m.redis.Stop()
	if a := m.complete(cart, "new"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Error("without Redis:", a)
	}
}

func TestShopLogsWhatItDoesNotTell(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(tokenOK, "book")
	if _, err := m.shop.db.ExecContext(t.Context(), "DROP TABLE items"); err != nil {
		t.Fatal(err)
	}
	for path, status := range map[string]int{"payment-sessions": http.StatusInternalServerError, "complete": http.StatusServiceUnavailable} {
		before := strings.Count(m.log.String(), "no such table")
		a := m.post("/store/carts/"+cart+"/"+path, "key", `{"token": "pm_ok"}`)
		if a.status != status || strings.Contains(a.body, "table") {
			t.Errorf("%s: %v, want %d", path, a, status)
		}
		if strings.Count(m.log.String(), "no such table") != before+1 {
			t.Errorf("%s: logged is %s", path, m.log.String())
		}
	}
}
