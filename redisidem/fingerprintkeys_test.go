package redisidem_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

func mustFingerprintKeys(t testing.TB, primary []byte, older ...[]byte) *redisidem.FingerprintKeys {
	t.Helper()
	keys, err := redisidem.NewFingerprintKeys(primary, older...)
	mustBe(t, err, nil)
	return keys
}

// TestS4_FingerprintKeysCanBeChanged follows a key ring: plain digests, then a secret, then another
// secret.
func TestS4_FingerprintKeysCanBeChanged(t *testing.T) {
	first, second := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 32)
	for name, req := range map[string]redisidem.Request{
		"params": {Method: "POST", Path: "/", Params: []byte("card")}, "own": {Fingerprint: []byte("card")},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				other := req
				other.Path = "/other"
				if other.Fingerprint != nil {
					other.Fingerprint = []byte("other")
				}
				flow := mustFlow(b, redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{{
					Point: redisidem.Started,
					Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						return redisidem.Finish(redisidem.JSON(200, "done")), nil
					},
				}}})
				prints := make(map[string]bool)
				for i, ring := range []*redisidem.FingerprintKeys{
					nil,
					mustFingerprintKeys(b, nil, first),
					mustFingerprintKeys(b, first, nil),
					mustFingerprintKeys(b, first, second, nil),
					mustFingerprintKeys(b, second, first, nil),
				} {
					codec := mustCodec(b, secret("a"))
					sc := b.service(redisidem.Config{FingerprintKeys: ring, Codec: codec, CacheBytes: 1 << 20}).Scope("a")
					for j := range i + 1 {
						for kind, ask := range map[string]func(value string, req redisidem.Request) (*redisidem.Key, error){
							"do": func(value string, req redisidem.Request) (*redisidem.Key, error) {
								return sc.Do(ctx, value, req, finish("done"))
							},
							"flow": func(value string, req redisidem.Request) (*redisidem.Key, error) {
								return sc.DoFlow(ctx, value, req, flow)
							},
							"created": func(value string, req redisidem.Request) (*redisidem.Key, error) {
								return sc.InitializeRequest(ctx, value, req)
							},
						} {
							value := fmt.Sprintf("%s-%d", kind, j)
							for range 2 {
								key, err := ask(value, req)
								mustBe(b, err, nil)
								if kind != "created" && !key.Finished() || kind != "created" && j < i && !key.Replayed() {
									b.Errorf("ring %d, %s: %+v", i, value, key)
								}
								_, err = ask(value, other)
								mustBe(b, err, redisidem.ErrFingerprintMismatch)
							}
						}
					}
					for _, name := range b.server.Keys() {
						if sum := b.server.HGet(name, "fingerprint"); sum != "" {
							prints[sum] = true
						}
					}
				}
				if len(prints) != 3 {
					b.Errorf("%d fingerprints of one request, and not one for each secret", len(prints))
				}
				// Without the old secret the record has another fingerprint, and is not absent.
				sc := b.service(redisidem.Config{FingerprintKeys: mustFingerprintKeys(b, second)}).Scope("a")
				_, err := sc.Do(ctx, "do-0", req, never(b))
				mustBe(b, err, redisidem.ErrFingerprintMismatch)
			})
		})
	}
}

func TestInvalidFingerprintKeysAreRefused(t *testing.T) {
	t.Parallel()
	for _, ring := range [][][]byte{{nil}, {{}}, {[]byte("short")}, {bytes.Repeat([]byte{1}, 16), []byte("short")}} {
		_, err := redisidem.NewFingerprintKeys(ring[0], ring[1:]...)
		mustBeInvalid(t, err, "NewFingerprintKeys", "16")
	}
	keys := mustFingerprintKeys(t, []byte("sixteen bytes or so"))
	if text := fmt.Sprintf("%+v %v", redisidem.Config{FingerprintKeys: keys}, redisidem.Config{FingerprintKeys: keys}); strings.Contains(text, "sixteen") || strings.Contains(text, "115 105 120") {
		t.Errorf("the secret is in %s", text)
	}
}

// claims is a hook that collects the tokens of the claims that a client sends.
type claims struct{ tokens []string }

func (c *claims) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *claims) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); len(args) > 3 && (args[1] == lua.Claim.SHA || args[1] == lua.Claim.Source) {
			c.tokens = append(c.tokens, word(args[3+args[2].(int)]))
		}
		return next(ctx, cmd)
	}
}

func (c *claims) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestEachFingerprintIsClaimedWithATokenOfItsOwn checks the tokens of a caller with two fingerprint
// keys. A refused claim releases its lock, and during a slot migration this is a separate step that
// may come late. It must not release the lock of the claim that was accepted.
func TestEachFingerprintIsClaimedWithATokenOfItsOwn(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(options(miniredis.RunT(t).Addr(), 3))
	sent := &claims{}
	client.AddHook(sent)
	first, second := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 32)
	for i, ring := range []*redisidem.FingerprintKeys{nil, mustFingerprintKeys(t, first, second, nil)} {
		svc, err := redisidem.New(client, &redisidem.Config{FingerprintKeys: ring, Timeout: 5 * time.Second})
		mustBe(t, err, nil)
		key, err := svc.Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(t, err, nil)
		if key.Replayed() != (i > 0) {
			t.Errorf("ring %d: replayed is %t", i, key.Replayed())
		}
		mustBe(t, svc.Close(ctx), nil)
	}
	mustBe(t, client.Close(), nil)
	distinct := slices.Compact(slices.Sorted(slices.Values(sent.tokens)))
	if len(sent.tokens) < 4 || len(distinct) < 4 { // a script that the server does not have yet is sent twice
		t.Errorf("the claims have the tokens %v", sent.tokens)
	}
}
