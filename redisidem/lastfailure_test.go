package redisidem_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

// TestLastFailureIsRemembered checks what an operator finds out about a failed attempt, with plain
// and with encrypted values.
func TestLastFailureIsRemembered(t *testing.T) {
	ring, err := codec.NewEncryption(codec.EncryptionKey{ID: "1", Secret: make([]byte, 32)})
	mustBe(t, err, nil)
	onEveryServer(t, func(t *testing.T, e *env) {
		for name, values := range map[string]redisidem.Codec{"plain": nil, "encrypted": ring} {
			svc := e.service(func(c *redisidem.Config) { c.Codec, c.Owner, c.MaxValueBytes = values, "worker/1", 64 })
			sc, raw := svc.Scope(name), e.client()
			failure := errors.New("card 4711 was declined\xff " + strings.Repeat("é", 200))
			declined := func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if key := st.Key(); key.LockedBy != "worker/1" || key.LockedAt.IsZero() {
					t.Errorf("in the stage the key is locked by %q since %v", key.LockedBy, key.LockedAt)
				}
				return redisidem.Outcome{}, failure
			}
			for range 2 {
				_, err := sc.Do(ctx, "k", request, declined)
				mustBe(t, err, failure)
			}
			key, err := sc.Retrieve(ctx, "k")
			mustBe(t, err, nil)
			f := key.LastFailure
			if f == nil || f.Attempt != 2 || f.Revision != 0 || f.Owner != "worker/1" || f.At.Before(key.CreatedAt) {
				t.Fatalf("the last failure is %+v", f)
			}
			if !strings.HasPrefix(f.Text, "card 4711 was declined\ufffd é") || len(f.Text) > 256 || len(f.Text) < 254 || !strings.HasSuffix(f.Text, "é") {
				t.Errorf("the text is %q", f.Text)
			}
			if key.LockedBy != "" || !key.LockedAt.IsZero() {
				t.Errorf("the key is locked by %q since %v", key.LockedBy, key.LockedAt)
			}
			record, _ := e.place(key)
			if stored := raw.HGet(ctx, record, "last_failure").Val(); strings.Contains(stored, "card 4711") != (values == nil) {
				t.Errorf("stored is %q", stored)
			}

			_, err = sc.Do(ctx, "k", request, finish("done"))
			mustBe(t, err, nil)
			key, err = sc.Retrieve(ctx, "k")
			mustBe(t, err, nil)
			if !key.Finished() || key.LastFailure == nil || key.LastFailure.Attempt != 2 {
				t.Errorf("the finished key's last failure is %+v", key.LastFailure)
			}
		}
	})
}

// TestFailureCountsRuns checks that a failure names the last run of a stage that was retried under
// one lease, and that an error without a text, or a text that cannot be decoded, does no harm.
func TestFailureCountsRuns(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		ring, err := codec.NewEncryption(codec.EncryptionKey{ID: "1", Secret: make([]byte, 32)})
		mustBe(t, err, nil)
		sc := e.service(func(c *redisidem.Config) { c.Codec = ring }).Scope("a")
		flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
			c.Stages[0].Retry = redisidem.Retry{Attempts: 3, Backoff: time.Millisecond}
			c.Stages[0].Work = fails(errStage)
		}))
		_, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, errStage)
		key, err := sc.Retrieve(ctx, "k")
		mustBe(t, err, nil)
		if f := key.LastFailure; f == nil || f.Attempt != 3 || !strings.Contains(f.Text, errStage.Error()) {
			t.Errorf("the last failure is %+v", f)
		}

		other := e.service().Scope("a")
		_, err = other.Do(ctx, "bare", redisidem.Request{Method: "POST", Path: "/"}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, (*badError)(nil)
		})
		var bad *badError
		if !errors.As(err, &bad) {
			t.Error("the error is lost")
		}
		_, err = sc.Do(ctx, "bare", redisidem.Request{Method: "POST", Path: "/"}, fails(errStage))
		mustBe(t, err, errStage)
		key, err = other.Retrieve(ctx, "bare")
		mustBe(t, err, nil)
		if f := key.LastFailure; f == nil || f.Attempt != 2 || f.Text != "" || !errors.Is(f.Err, redisidem.ErrDamaged) {
			t.Errorf("without the codec the last failure is %+v", f)
		}
		_, err = other.Do(ctx, "bare", redisidem.Request{Method: "POST", Path: "/"}, finish("done"))
		mustBe(t, err, nil)
		key, err = sc.Do(ctx, "bare", redisidem.Request{Method: "POST", Path: "/"}, never(t))
		if err == nil && key.LastFailure == nil {
			t.Error("a replay has no last failure")
		}
	})
}

// badError panics when its text is asked for.
type badError struct{ text string }

func (e *badError) Error() string { return e.text }

func TestFailuresCanBeDiscarded(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service(func(c *redisidem.Config) { c.DiscardFailures = true }).Scope("a")
		_, err := sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, errStage
		})
		mustBe(t, err, errStage)
		key, err := sc.Retrieve(ctx, "k")
		mustBe(t, err, nil)
		if key.LastFailure != nil {
			t.Errorf("the last failure is %+v", key.LastFailure)
		}
	})
}

// TestFailureInLists checks that a list shows failures, finds keys by them, and shows the rest of a
// record whose failure it cannot decode.
func TestFailureInLists(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		ring, err := codec.NewEncryption(codec.EncryptionKey{ID: "1", Secret: make([]byte, 32)})
		mustBe(t, err, nil)
		svc := e.service(func(c *redisidem.Config) { c.Codec = ring })
		for value, text := range map[string]string{"one": "the card was declined", "two": "the network is away"} {
			_, err := svc.Scope("a").Do(ctx, value, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Outcome{}, errors.New(text)
			})
			if err == nil {
				t.Fatal("no error")
			}
		}
		list := func(svc *redisidem.Service, f redisidem.Filter) map[string]string {
			found := make(map[string]string)
			for page, err := range redisidem.NewInspector(svc).List(ctx, f, "") {
				mustBe(t, err, nil)
				for _, k := range page.Keys {
					found[k.Value] = k.LastFailure.Text
				}
			}
			return found
		}
		if found := list(svc, redisidem.Filter{Scope: "a", Failure: "declined"}); len(found) != 1 || found["one"] != "the card was declined" {
			t.Errorf("found %q", found)
		}
		if found := list(e.service(), redisidem.Filter{Scope: "a"}); len(found) != 2 || found["one"] != "" {
			t.Errorf("without the codec found %q", found)
		}
	})
}

// TestDeadLettersAreKeptLonger checks that a dead letter and its record outlive the retention.
func TestDeadLettersAreKeptLonger(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 1
			c.Stages[1].Work = fails(errStage)
		}))
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		completer := mustCompleter(b, svc, flow)
		for n := 0; b.deadLetters(svc) == 0; n++ {
			if n == 100 {
				b.Fatal("the key is not given up")
			}
			time.Sleep(time.Minute)
			_, err := completer.Sweep(ctx)
			mustBe(b, err, nil)
		}
		// An operator's look does not shorten its place in the list, even if that was lost.
		b.lose("dead")
		mustBe(b, locked(b, sc, "k").Abandon(ctx), nil)
		time.Sleep(redisidem.DefaultDeadLetterRetention - time.Hour)
		if n := b.deadLetters(svc); n != 1 {
			b.Errorf("%d dead letters are left", n)
		}
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if key.DeadLetter == nil || key.LastFailure == nil {
			b.Errorf("the key is %+v", key)
		}
		time.Sleep(2 * time.Hour)
		_, err = sc.Retrieve(ctx, "k")
		mustBe(b, err, redisidem.ErrNotFound)
	})
}

// deadLetters returns the number of the dead letters of carts.
func (b *bubble) deadLetters(svc *redisidem.Service) (n int) {
	b.Helper()
	for _, err := range svc.DeadLetters(ctx, "cart") {
		mustBe(b, err, nil)
		n++
	}
	return n
}
