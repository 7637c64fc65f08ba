package redisidem_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// upload is a reader with a part that JSON writes.
type upload struct{ Name string }

func (upload) Read([]byte) (int, error) { return 0, io.EOF }

// readable is a reader with a JSON form of its own.
type readable string

func (readable) Read([]byte) (int, error) { return 0, io.EOF }

func (r readable) MarshalText() ([]byte, error) { return []byte(r), nil }

func TestParamsThatEncodeToNothingAreRefused(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		type form struct{ amount int }
		type order struct {
			Name string
			Form form
		}
		type embeds struct {
			form
			Name string
		}
		type optional struct {
			Name string `json:",omitempty"`
			Form *form  `json:",omitempty"`
		}
		for _, c := range []struct {
			params any
			want   string // in the error; empty: accepted
		}{
			{strings.NewReader("x"), "strings.Reader"},
			{form{1}, "form"},
			{&form{1}, "form"},
			{order{"x", form{1}}, ".Form"},
			{[]any{"x", form{1}}, "[1]"},
			{map[string]any{"body": strings.NewReader("x")}, ".body"},
			{func() {}, "func()"},
			{make(chan int), "chan int"},
			{upload{Name: "x"}, "io.Reader"},
			{&io.LimitedReader{}, "io.Reader"},
			{readable("x"), ""},
			{optional{Form: &form{1}}, ".Form"},
			{errors.New("x"), "errorString"},
			{embeds{form{1}, "x"}, ""},
			{optional{}, ""},
			{struct{}{}, ""},
			{map[string]string{}, ""},
			{time.Unix(1, 0), ""},
			{[]byte{}, ""},
			{"", ""},
			{(*form)(nil), ""},
			{map[string]any{"a": nil, "b": []any{1.5, "x"}}, ""},
		} {
			key, err := sc.InitializeRequest(ctx, "", redisidem.Request{Params: c.params})
			var invalid *redisidem.InvalidError
			switch {
			case c.want == "":
				mustBe(t, err, nil)
			case !errors.As(err, &invalid) || invalid.Field != "Request.Params" || !strings.Contains(invalid.Reason, c.want):
				t.Errorf("%T makes %v and %v, want an error that names %q", c.params, key, err, c.want)
			}
		}
	})
}

// money is encoded by a method of its pointer, which JSON uses wherever the value is addressable.
type money struct{ cents int64 }

func (m *money) MarshalJSON() ([]byte, error) { return json.Marshal(m.cents) }

func (m *money) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &m.cents) }

func TestValuesWithPointerMarshalersAreAccepted(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		type order struct{ Amount big.Int }
		for value, params := range map[string]any{"order": &order{*big.NewInt(5)}, "amounts": []money{{5}}} {
			_, err := sc.InitializeRequest(ctx, value, redisidem.Request{Params: params})
			mustBe(b, err, nil)
		}
		for range 2 {
			got, _, err := redisidem.Do(ctx, sc, "slice", request, func(context.Context, *redisidem.Stage) ([]money, error) {
				return []money{{7}}, nil
			})
			mustBe(b, err, nil)
			if len(got) != 1 || got[0].cents != 7 {
				b.Errorf("the result is %v", got)
			}
			placed, _, err := redisidem.Do(ctx, sc, "pointer", request, func(context.Context, *redisidem.Stage) (*order, error) {
				return &order{*big.NewInt(5)}, nil
			})
			mustBe(b, err, nil)
			if placed.Amount.Int64() != 5 {
				b.Errorf("the result is %v", placed)
			}
		}
	})
}
