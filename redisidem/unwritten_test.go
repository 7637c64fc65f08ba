package redisidem_test

import (
	"context"
	"encoding/json"
	"math/big"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// money is written by a method of its pointer, which JSON uses wherever it can take one.
type money struct{ cents int64 }

func (m *money) MarshalJSON() ([]byte, error)    { return json.Marshal(m.cents) }
func (m *money) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &m.cents) }

func TestValuesThatPointersWriteAreAccepted(t *testing.T) {
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
