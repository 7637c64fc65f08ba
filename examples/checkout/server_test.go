package main

import (
	"context"
	"encoding/json"
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
	m := &market{T: t, redis: idemtest.NewServer(t)}
	m.service = m.redis.Service(cfg)
	dir := t.TempDir()
	var err error
	if m.provider, err = openProvider(t.Context(), filepath.Join(dir, "provider.db")); err != nil {
		t.Fatal(err)
	}
	if m.shop, err = openShop(t.Context(), filepath.Join(dir, "shop.db")); err != nil {
		t.Fatal(err)
	}
	bank := httptest.NewServer(m.provider.handler())
	m.payments = &payments{url: bank.URL, client: bank.Client()}
	c := &checkout{shop: m.shop, payments: m.payments, crash: func() { panic(http.ErrAbortHandler) }}
	flow, err := c.flow()
	if err != nil {
		t.Fatal(err)
	}
	h, err := newServer(m.service, m.shop, flow, slog.New(slog.NewTextHandler(&m.log, nil)))
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
	t.Parallel()
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
			t.Parallel()
			m := newMarket(t, nil)
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
			var asked struct {
				Status  string `json:"payment_status"`
				Payment string `json:"payment_id"`
			}
			for range c.polls { // the client may ask as often as it likes, in the meantime
				a := m.complete(cart, "key")
				if err := json.Unmarshal([]byte(a.body), &asked); err != nil || asked.Status != "requires_more" || a.status != http.StatusOK {
					t.Fatal(a, err)
				}
			}
			m.ledger(cart, 0, 0, 0, 1)
			if _, err := c.answer(m.payments, t.Context(), asked.Payment); err != nil {
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
	if streams, err := m.redis.Client().Keys(t.Context(), "*:x:"+outbox).Result(); err != nil || len(streams) != 1 {
		t.Error("there should be one event", streams, err)
	}
}

func TestCartIsCompletedUnderOneKeyAtATime(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(token3DS, "book")
	asked := m.complete(cart, "first")
	if a := m.complete(cart, "second"); a.status != http.StatusOK || a.body != asked.body { // it waits for the customer, too
		t.Error(a)
	}
	// What is being paid for does not change meanwhile.
	for path, body := range map[string]string{"line-items": `{"variant_id": "lamp", "quantity": 9}`, "payment-sessions": `{"token": "pm_ok"}`} {
		if a := m.post("/store/carts/"+cart+"/"+path, "", body); a.status != http.StatusConflict {
			t.Error(path, a)
		}
	}
	var made struct {
		Payment string `json:"payment_id"`
	}
	if err := json.Unmarshal([]byte(asked.body), &made); err != nil {
		t.Fatal(err)
	}
	if _, err := m.payments.refuse(t.Context(), made.Payment); err != nil {
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

// TestKeyThatCameSecondBuysNothingLater looks at a client that was asked to come back and did not:
// a later use of its key, as by a completer, makes no order of a cart that may have changed.
func TestKeyThatCameSecondBuysNothingLater(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(tokenOK, "book")
	other := completion{cart, "other", 1}
	if _, _, err := m.shop.begin(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if a := m.complete(cart, "late"); a.status != http.StatusConflict || a.header.Get("Retry-After") == "" {
		t.Fatal(a)
	}
	if err := m.shop.release(t.Context(), other); err != nil { // it was declined
		t.Fatal(err)
	}
	m.redis.FastForward(patience + time.Minute)
	late := m.complete(cart, "late")
	if late.status != http.StatusConflict || late.header.Get("Retry-After") != "" {
		t.Error(late)
	}
	m.replays(cart, "late", late)
	m.ledger(cart, 0, 0, 0, 0)
	if a := m.complete(cart, "fresh"); a.status != http.StatusOK {
		t.Error(a)
	}
}

// TestPaymentIsTakenOverByAnotherKey looks at clients that make up a key for each call: the
// customer confirms a payment that was asked for under another one.
func TestPaymentIsTakenOverByAnotherKey(t *testing.T) {
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
			var asked struct {
				Payment string `json:"payment_id"`
			}
			if err := json.Unmarshal([]byte(m.complete(cart, "first").body), &asked); err != nil {
				t.Fatal(err)
			}
			if _, err := c.answer(m.payments, t.Context(), asked.Payment); err != nil {
				t.Fatal(err)
			}
			second := m.complete(cart, "second")
			if second.status != c.status {
				t.Fatal(second)
			}
			m.replays(cart, "second", second)
			m.ledger(cart, c.charged, c.voided, c.orders, c.orders)
			// The first one comes back, or its completer does: it gets what there is, and nothing
			// happens twice.
			if a := m.complete(cart, "first"); c.orders == 1 && a.body != second.body || c.orders == 0 && a.status != http.StatusPaymentRequired {
				t.Error(a)
			}
			m.ledger(cart, c.charged, c.voided, c.orders, c.orders)
			want := int(c.orders)
			if streams, err := m.redis.Client().Keys(t.Context(), "*:x:"+outbox).Result(); err != nil || len(streams) != want {
				t.Error("there should be one event for each order", streams, err)
			}
		})
	}
}

func TestRedisThatForgotDoesNotChargeAgain(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	cart := m.fill(tokenOK, "book")
	first := m.complete(cart, "key")
	if err := m.redis.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if a := m.complete(cart, "key"); a.body != first.body {
		t.Errorf("%v, want %v", a, first)
	}
	m.ledger(cart, 1, 0, 1, 1)
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
	m.charged(cart)
	return slow
}

// charged waits until the provider has charged for a cart.
func (m *market) charged(cart string) {
	m.Helper()
	for range 4000 {
		charged, _, err := m.provider.counts(m.Context(), cart)
		if err != nil {
			m.Fatal(err)
		}
		if charged == 1 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	m.Fatal("the cart is not charged")
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
	m := newMarket(t, &redisidem.Config{Timeout: 300 * time.Millisecond})
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
	if _, err := m.shop.db.ExecContext(t.Context(), "DROP TABLE completions"); err != nil {
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
