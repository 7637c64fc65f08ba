package redisidem_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

func TestOutcomesAtTheirBounds(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service(func(c *redisidem.Config) { c.MaxValueBytes = 10; c.MaxKeyBytes = 40 }).Scope("a")
		req := redisidem.Request{Method: "0123456789", Path: "0123456789", Params: []byte("0123456789")}
		do := func(value string, r redisidem.Response) error {
			_, err := sc.Do(ctx, value, req, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Finish(r), nil
			})
			return err
		}
		mustBeInvalid(t, do("k", redisidem.Response{Body: []byte("0123456789a")}), "Response.Body", "11", "(10)")
		mustBeInvalid(t, do(strings.Repeat("k", 41), redisidem.Response{}), "key", "41", "(40)")
		for value, r := range map[string]redisidem.Response{
			strings.Repeat("k", 40): {Code: 0, Body: []byte("0123456789")},
			"header":                {Code: 100, Header: map[string][]string{"X": {"012345"[:5]}}},
			"599":                   {Code: 599, Body: []byte("\xff\x00\r\n")},
			"nothing":               {},
		} {
			mustBe(t, do(value, r), nil)
			key, err := sc.Retrieve(ctx, value)
			mustBe(t, err, nil)
			if value == "nothing" {
				if key.Response == nil || !key.Response.IsZero() {
					t.Errorf("the response is %+v", key.Response)
				}
				continue
			}
			if got := key.Response; got == nil || got.Code != r.Code || !bytes.Equal(got.Body, r.Body) ||
				!maps.EqualFunc(got.Header, r.Header, slices.Equal) {
				t.Errorf("%+v came back as %+v", r, got)
			}
		}
	})
}

// TestStoredValuesAreBoundedByMaxValueBytes stores values that are longer than any service would
// store.
func TestStoredValuesAreBoundedByMaxValueBytes(t *testing.T) {
	compression, err := codec.NewCompression(1)
	mustBe(t, err, nil)
	encryption, err := codec.NewEncryption(secret("a"))
	mustBe(t, err, nil)
	twice, err := codec.Chain(compression, compression)
	mustBe(t, err, nil)
	three, err := codec.Chain(compression, hexCodec{}, encryption)
	mustBe(t, err, nil)
	const limit = 64 << 10
	for name, with := range map[string]redisidem.Codec{
		"plain": nil, "compressed": compression, "encrypted": encryption, "compressed twice": twice, "in a chain of three": three,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				// A service with a larger bound stores a value that this one must not read.
				large := b.service(redisidem.Config{Codec: with, MaxValueBytes: 64 << 20}).Scope("a")
				small := b.service(redisidem.Config{Codec: with, MaxValueBytes: limit}).Scope("a")
				for _, size := range []int{limit, limit + 1, 48 << 20} {
					long := bytes.Repeat([]byte("x"), size)
					for field, stage := range map[string]struct {
						params  []byte
						outcome redisidem.Outcome
					}{
						"request_params":   {long, redisidem.Advance("two")},
						"state":            {nil, redisidem.Advance("two").WithState(long)},
						"response_body":    {nil, redisidem.Finish(redisidem.Response{Code: 200, Body: long})},
						"response_headers": {nil, redisidem.Finish(redisidem.Response{Code: 200, Header: map[string][]string{"X": {string(long[5:])}}})},
					} {
						if size > 1<<20 && (with != compression || field != "response_body") {
							continue // one that inflates is enough
						}
						value := fmt.Sprint(field, size)
						req := redisidem.Request{Method: "POST", Path: "/", Params: stage.params}
						_, err := large.Do(ctx, value, req, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
							return stage.outcome, nil
						})
						mustBe(b, err, nil)
						// Other goroutines allocate too. A decoder that allocates does so each
						// time.
						grown := uint64(math.MaxUint64)
						var key *redisidem.Key
						for range 3 {
							var before, after runtime.MemStats
							runtime.ReadMemStats(&before)
							key, err = small.Retrieve(ctx, value)
							runtime.ReadMemStats(&after)
							grown = min(grown, after.TotalAlloc-before.TotalAlloc)
						}
						if size <= limit {
							mustBe(b, err, nil)
							continue
						}
						mustBe(b, err, redisidem.ErrDamaged)
						if text := err.Error(); !strings.Contains(text, field) || !strings.Contains(text, fmt.Sprint(limit)) {
							b.Errorf("the error names neither %s nor the bound: %v", field, err)
						}
						if key != nil {
							b.Errorf("the key is %v", key)
						}
						if size > 1<<20 && grown > 4<<20 {
							b.Errorf("%s of %d bytes allocated %d", field, size, grown)
						}
					}
				}
			})
		})
	}
}
