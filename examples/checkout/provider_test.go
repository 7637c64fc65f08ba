package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// openBank starts a provider that is silent for so long, and makes a client of it.
func openBank(t *testing.T, silence time.Duration) (*provider, *payments) {
	t.Helper()
	p, err := openProvider(t.Context(), filepath.Join(t.TempDir(), "provider.db"))
	if err != nil {
		t.Fatal(err)
	}
	p.silence = silence
	server := httptest.NewServer(p.handler())
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p, &payments{url: server.URL, client: server.Client()}
}

func TestProviderChargesOnceForAKey(t *testing.T) {
	t.Parallel()
	p, pay := openBank(t, time.Minute)
	ask := charge{Key: "k", Fence: 5, FenceOf: "worker", Order: "cart", Token: tokenOK, Cents: 100}
	first, err := pay.charge(t.Context(), ask)
	if err != nil || first.State != stateCharged || first.Cents != 100 {
		t.Fatal(first, err)
	}
	for _, fence := range []int64{5, 6} {
		ask.Fence = fence
		if again, err := pay.charge(t.Context(), ask); err != nil || again != first {
			t.Errorf("fence %d: %v %v, want %v", fence, again, err, first)
		}
	}
	if found, err := pay.find(t.Context(), ask); err != nil || found != first {
		t.Error(found, err)
	}
	if found, err := pay.byID(t.Context(), first.ID); err != nil || found != first {
		t.Error(found, err)
	}

	// A refused charge leaves nothing behind, so it cannot be taken for a payment that was
	// declined.
	for name, c := range map[string]charge{
		"an earlier worker":       {Key: "new", Fence: 5, FenceOf: "worker", Order: "cart", Token: tokenOK, Cents: 100},
		"another amount":          {Key: "k", Fence: 7, FenceOf: "worker", Order: "cart", Token: tokenOK, Cents: 101},
		"another order":           {Key: "k", Fence: 7, FenceOf: "worker", Order: "other", Token: tokenOK, Cents: 100},
		"no amount":               {Key: "new", Fence: 7, FenceOf: "worker", Order: "cart", Token: tokenOK},
		"no key":                  {Fence: 7, FenceOf: "worker", Order: "cart", Token: tokenOK, Cents: 100},
		"a fence without its key": {Key: "new", Fence: 7, Order: "cart", Token: tokenOK, Cents: 100},
	} {
		if made, err := pay.charge(t.Context(), c); !errors.Is(err, redisidem.ErrOutcomeUnknown) {
			t.Errorf("%s: %v %v", name, made, err)
		}
	}
	// After a look-up that has found nothing, earlier workers are refused.
	late := charge{Key: "new", Fence: 8, FenceOf: "worker", Order: "cart", Token: tokenOK, Cents: 100}
	if _, err := pay.find(t.Context(), charge{Key: "new", Fence: 9, FenceOf: "worker"}); !errors.Is(err, errNoPayment) {
		t.Error(err)
	}
	if made, err := pay.charge(t.Context(), late); !errors.Is(err, redisidem.ErrOutcomeUnknown) {
		t.Error("the earlier worker has charged:", made, err)
	}
	if made, err := pay.find(t.Context(), late); !errors.Is(err, redisidem.ErrOutcomeUnknown) {
		t.Error("the earlier worker got an answer:", made, err)
	}
	if charged, voided, err := p.counts(t.Context(), "cart"); err != nil || charged != 1 || voided != 0 {
		t.Error(charged, voided, err)
	}
	// Another worker's fences are another count.
	other := charge{Key: "other", Fence: 1, FenceOf: "another worker", Order: "cart", Token: tokenDecline, Cents: 100}
	if made, err := pay.charge(t.Context(), other); err != nil || made.State != stateDeclined {
		t.Error(made, err)
	}
}

func TestProviderMovesPayments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, token     string
		turns           []string
		state           string
		charged, voided int64
	}{
		{"charged", tokenOK, nil, stateCharged, 1, 0},
		{"voided twice", tokenOK, []string{"void", "void"}, stateVoided, 1, 1},
		{"voided, and confirmed too late", token3DS, []string{"confirm", "void", "confirm"}, stateVoided, 1, 1},
		{"asked", token3DS, nil, stateConfirm, 0, 0},
		{"confirmed twice", token3DS, []string{"confirm", "confirm", "refuse"}, stateCharged, 1, 0},
		{"refused", token3DS, []string{"refuse", "confirm"}, stateDeclined, 0, 0},
		{"canceled", token3DS, []string{"void", "confirm"}, stateCanceled, 0, 0},
		{"declined, which cannot be voided", tokenDecline, []string{"void", "confirm"}, stateDeclined, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, pay := openBank(t, time.Minute)
			ask := charge{Key: "k", Fence: 1, FenceOf: "w", Order: "cart", Token: c.token, Cents: 1}
			made, err := pay.charge(t.Context(), ask)
			for _, turn := range c.turns {
				switch {
				case err != nil:
				case turn == "void":
					made, err = pay.void(t.Context(), ask)
				default:
					made, err = pay.ask(t.Context(), http.MethodPost, "/payments/"+made.ID+"/"+turn, nil)
				}
			}
			if err != nil || made.State != c.state {
				t.Error(made, err)
			}
			if charged, voided, err := p.counts(t.Context(), "cart"); err != nil || charged != c.charged || voided != c.voided {
				t.Error(charged, voided, err)
			}
		})
	}
}

// TestVoidedChargeIsNotMade has a charge that arrives after it was called off.
func TestVoidedChargeIsNotMade(t *testing.T) {
	t.Parallel()
	p, pay := openBank(t, time.Minute)
	ask := charge{Key: "k", Fence: 1, FenceOf: "w", Order: "cart", Token: tokenOK, Cents: 1}
	for _, send := range []func(context.Context, charge) (payment, error){pay.void, pay.void, pay.charge, pay.void, pay.charge} {
		if made, err := send(t.Context(), ask); err != nil || made.State != stateCanceled {
			t.Error(made, err)
		}
	}
	if charged, voided, err := p.counts(t.Context(), "cart"); err != nil || charged != 0 || voided != 0 {
		t.Error(charged, voided, err)
	}
	if made, err := pay.void(t.Context(), charge{Key: "new", FenceOf: "w", Order: "cart"}); !errors.Is(err, redisidem.ErrOutcomeUnknown) {
		t.Error("a charge without an amount:", made, err)
	}
}

func TestProviderThatIsSilentHasCharged(t *testing.T) {
	t.Parallel()
	for name, silence := range map[string]time.Duration{"until it hangs up": time.Millisecond, "until its caller does": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, pay := openBank(t, silence)
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			ended := make(chan error, 1)
			go func() {
				_, err := pay.charge(ctx, charge{Key: "k", Fence: 1, FenceOf: "w", Order: "cart", Token: tokenTimeout, Cents: 1})
				ended <- err
			}()
			awaitCharge(t, p, "cart")
			if silence == time.Minute {
				hangUp()
			}
			if err := <-ended; !errors.Is(err, redisidem.ErrOutcomeUnknown) {
				t.Error(err)
			}
			if found, err := pay.find(t.Context(), charge{Key: "k", Fence: 1, FenceOf: "w"}); err != nil || found.State != stateCharged {
				t.Error(found, err)
			}
		})
	}
}

func TestLedgerOutlivesTheProvider(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "provider.db")
	ask := charge{Key: "k", Fence: 2, FenceOf: "w", Order: "cart", Token: tokenOK, Cents: 1}
	for range 2 {
		p, err := openProvider(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		if made, err := p.charge(t.Context(), ask); err != nil || made.State != stateCharged {
			t.Error(made, err)
		}
		r := httptest.NewRecorder()
		p.handler().ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/charges/cart", http.NoBody))
		var got map[string]int64
		if err := json.Unmarshal(r.Body.Bytes(), &got); err != nil || got["charged"] != 1 || got["voided"] != 0 {
			t.Error(r.Body, err)
		}
		ask.Fence = 1
		if _, err := p.charge(t.Context(), ask); !errors.Is(err, errOldFence) {
			t.Error(err)
		}
		ask.Fence = 2
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}
}
