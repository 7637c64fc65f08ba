package redisidem_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// The types with parts that JSON loses.
type (
	halfHidden struct {
		ID    string
		cents int64
	}
	hiddenDeep struct {
		Of map[string][]*halfHidden
	}
	hiddenEmbedded struct {
		halfHidden
	}
	hiddenPointer struct {
		*visible
	}
	oneWay struct{ cents int64 }
	dead   struct{ Err error }
)

// visible and the types after it have no part that JSON loses.
type (
	visible struct{ ID string }
	nesting struct {
		visible
		Visible *visible
		Next    *nesting
	}
	declared struct {
		_    struct{}
		none struct{}
		mu   *sync.Mutex `json:"-"`
		When time.Time
		Sum  *big.Int
		Raw  json.RawMessage
		Any  any
	}
)

func (o oneWay) MarshalJSON() ([]byte, error) { return json.Marshal(o.cents) }

func TestResultTypeThatLosesAPartIsRefusedBeforeTheWork(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		mustLose[halfHidden](t, sc, "cents: the field is not exported")
		mustLose[[]*halfHidden](t, sc, "cents: the field is not exported")
		mustLose[hiddenDeep](t, sc, "Of: ")
		mustLose[hiddenEmbedded](t, sc, "cents: the field is not exported")
		mustLose[hiddenPointer](t, sc, "visible: the field is not exported")
		mustLose[oneWay](t, sc, "none that reads it")
		mustLose[map[string]oneWay](t, sc, "none that reads it")
		mustLose[dead](t, sc, "Err: ")
		mustLose[fmt.Stringer](t, sc, "fmt.Stringer")
		mustLose[url.URL](t, sc, "User: ")
		_ = halfHidden{cents: 1}

		mustStay(b, sc, nesting{visible: visible{"a"}, Next: &nesting{Visible: &visible{"b"}}})
		mustStay(b, sc, declared{When: time.Unix(1, 2).UTC(), Sum: big.NewInt(3), Raw: json.RawMessage(`[1]`), Any: "x"})
		mustStay(b, sc, [][]byte{{1}, nil})
		mustStay(b, sc, map[int]any{1: nil})
		mustStay[any](b, sc, "x")
		_ = declared{none: struct{}{}, mu: nil}
	})
}

// mustLose checks that Do refuses the type of the result, with these words in the error.
func mustLose[T any](t *testing.T, sc *redisidem.Scope, want string) {
	t.Helper()
	_, _, err := redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (result T, err error) {
		t.Errorf("the work for %T ran", result)
		return result, nil
	})
	mustBeInvalid(t, err, "result")
	if !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want %q in it", err, want)
	}
}

// mustStay checks that Do returns the result from the first call and from a replay.
func mustStay[T any](b *bubble, sc *redisidem.Scope, want T) {
	b.Helper()
	value := fmt.Sprintf("%T", want)
	for range 2 {
		got, _, err := redisidem.Do(ctx, sc, value, request, func(context.Context, *redisidem.Stage) (T, error) { return want, nil })
		mustBe(b, err, nil)
		if toText(got) != toText(want) {
			b.Errorf("%s: the result is %+v, want %+v", value, got, want)
		}
	}
}

func toText(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// forgetful is read from JSON in another way than it is written.
type forgetful struct{ cents int64 }

func (f forgetful) MarshalJSON() ([]byte, error) { return json.Marshal(fmt.Sprint(f.cents)) }

func (f *forgetful) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &f.cents) }

// TestFirstResultIsThatOfTheReplay has results that JSON changes, and one that it cannot read.
func TestFirstResultIsThatOfTheReplay(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		type marked struct {
			ID  string
			Tag string `json:"-"`
		}
		for range 2 {
			got, _, err := redisidem.Do(ctx, sc, "tag", request, func(context.Context, *redisidem.Stage) (marked, error) {
				return marked{"ch_1", "left out"}, nil
			})
			mustBe(b, err, nil)
			if got != (marked{ID: "ch_1"}) {
				b.Errorf("the result is %+v", got)
			}
			number, _, err := redisidem.Do(ctx, sc, "any", request, func(context.Context, *redisidem.Stage) (any, error) { return 42, nil })
			mustBe(b, err, nil)
			if number != 42.0 {
				b.Errorf("the result is %#v", number)
			}
			lost, _, err := redisidem.Do(ctx, sc, "lost", request, func(context.Context, *redisidem.Stage) (forgetful, error) {
				return forgetful{42}, nil
			})
			mustBe(b, err, redisidem.ErrNotKept)
			if lost != (forgetful{}) {
				b.Errorf("the result is %+v", lost)
			}
		}
	})
}
