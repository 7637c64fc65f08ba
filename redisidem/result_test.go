package redisidem_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestResultOfAnotherType(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		type charge struct{ ID, Amount string }
		_, _, err := redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (charge, error) {
			return charge{"ch_1", "ten"}, nil
		})
		mustBe(t, err, nil)
		type other struct {
			ID     string
			Amount int
		}
		result, replayed, err := redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (other, error) {
			return other{}, nil
		})
		mustBe(t, err, redisidem.ErrOtherType)
		if !replayed || result != (other{}) {
			t.Errorf("the result is %+v, replayed %v", result, replayed)
		}
		_, err = sc.Do(ctx, "empty", request, outcome(redisidem.Outcome{}))
		mustBe(t, err, nil)
		_, _, err = redisidem.Do(ctx, sc, "empty", request, func(context.Context, *redisidem.Stage) (int, error) { return 1, nil })
		mustBe(t, err, redisidem.ErrOtherType)
		_, err = sc.Do(ctx, "state", request, outcome(redisidem.Advance("two").WithState("word")))
		mustBe(t, err, nil)
		_, err = sc.Do(ctx, "state", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			var n int
			return redisidem.Outcome{}, st.State(&n)
		})
		mustBe(t, err, redisidem.ErrOtherType)
	})
}

// payment is a result that can be a refusal.
type payment struct {
	ID       string `json:",omitempty"`
	Declined string `json:",omitempty"`
}

func (p payment) StatusCode() int {
	if p.Declined != "" {
		return 402
	}
	return 201
}

// badStatus is a result whose status cannot be stored.
type badStatus int

func (s *badStatus) StatusCode() int { return int(*s) }

func TestResultNamesItsStatus(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		mustStore(b, sc, "made", payment{ID: "ch_1"}, 201)
		mustStore(b, sc, "declined", payment{Declined: "no funds"}, 402)
		mustStore(b, sc, "own status", badStatus(409), 409)
		mustStore(b, sc, "no status", badStatus(0), 200)
		mustStore(b, sc, "nothing", (*payment)(nil), 200)
		mustStore[any](b, sc, "as any", "text", 200)
		for range 2 {
			_, _, err := redisidem.Do(ctx, sc, "out of bounds", request, func(context.Context, *redisidem.Stage) (badStatus, error) {
				return 1000, nil
			})
			mustBe(b, err, redisidem.ErrNotKept)
		}
	})
}

// mustStore checks that the first call and a replay of Do return the result, and that it is stored
// with the status.
func mustStore[T comparable](b *bubble, sc *redisidem.Scope, value string, want T, status int) {
	b.Helper()
	for _, replay := range []bool{false, true} {
		got, replayed, err := redisidem.Do(ctx, sc, value, request, func(context.Context, *redisidem.Stage) (T, error) { return want, nil })
		mustBe(b, err, nil)
		if got != want || replayed != replay {
			b.Errorf("%s: the result is %v, replayed %v, want %v and %v", value, got, replayed, want, replay)
		}
	}
	key, err := sc.Retrieve(ctx, value)
	mustBe(b, err, nil)
	if key.Response.Code != status {
		b.Errorf("%s: stored with the status %d, want %d", value, key.Response.Code, status)
	}
}

// TestAnswerWithAnotherStatusIsNotAResult finishes the key by hand, as an operator does.
// unseenStatus has a status that JSON does not keep.
type unseenStatus struct {
	ID   int
	Code int `json:"-"`
}

func (r unseenStatus) StatusCode() int { return r.Code }

// embedsNothing panics when it is asked for its status.
type embedsNothing struct{ *Paid }

// Paid is exported, so that JSON keeps it where it is embedded.
type Paid struct{ Cents int }

// StatusCode needs a value.
func (p Paid) StatusCode() int { return 200 + p.Cents }

// TestStatusFollowsFromWhatIsStored covers results whose status is lost with a part of them.
func TestStatusFollowsFromWhatIsStored(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		for range 2 {
			got, _, err := redisidem.Do(ctx, sc, "unseen", request, func(context.Context, *redisidem.Stage) (unseenStatus, error) {
				return unseenStatus{ID: 1, Code: 402}, nil
			})
			mustBe(b, err, nil)
			if got != (unseenStatus{ID: 1}) {
				b.Errorf("the result is %+v", got)
			}
		}
		for range 2 {
			_, _, err := redisidem.Do(ctx, sc, "any", request, func(context.Context, *redisidem.Stage) (any, error) {
				return payment{}, nil
			})
			mustBe(b, err, nil)
		}
		runs := 0
		for range 2 {
			_, _, err := redisidem.Do(ctx, sc, "panics", request, func(context.Context, *redisidem.Stage) (embedsNothing, error) {
				runs++
				return embedsNothing{}, nil
			})
			mustBe(b, err, redisidem.ErrNotKept)
		}
		if runs != 1 {
			b.Errorf("the work ran %d times", runs)
		}
	})
}

func TestAnswerWithAnotherStatusIsNotAResult(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		key, err := sc.InitializeRequest(ctx, "k", request)
		mustBe(b, err, nil)
		_, err = sc.Update(ctx, key, redisidem.Fail(redisidem.JSON(410, payment{Declined: "called off"})))
		mustBe(b, err, nil)
		got, replayed, err := redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (payment, error) {
			b.Error("the work ran")
			return payment{}, nil
		})
		mustBe(b, err, redisidem.ErrOtherType)
		if !replayed || got != (payment{}) || !strings.Contains(err.Error(), "410") {
			b.Errorf("the result is %v, replayed %v: %v", got, replayed, err)
		}
	})
}
