package redisidem_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

func secret(id string) codec.EncryptionKey {
	return codec.EncryptionKey{ID: id, Secret: bytes.Repeat([]byte(id[:1]), 32)}
}

func mustCodec(t testing.TB, keys ...codec.EncryptionKey) redisidem.Codec {
	t.Helper()
	encryption, err := codec.NewEncryption(keys...)
	mustBe(t, err, nil)
	compression, err := codec.NewCompression(64)
	mustBe(t, err, nil)
	both, err := codec.Chain(compression, encryption)
	mustBe(t, err, nil)
	return both
}

func coded(with redisidem.Codec) func(*redisidem.Config) {
	return func(c *redisidem.Config) { c.Codec = with }
}

var secretRequest = redisidem.Request{Method: "POST", Path: "/cards", Params: map[string]string{"card": "4111111111111111"}}

// secretStages stores a secret in each value of a record.
func secretStages(t testing.TB, sc *redisidem.Scope, value string) *redisidem.Key {
	t.Helper()
	flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
		c.Stages[0].Work = outcome(redisidem.Next().WithState("state 4111111111111111"))
		c.Stages[3].Work = outcome(redisidem.Finish(redisidem.Response{
			Code: 201, Header: map[string][]string{"X-Card": {"4111111111111111"}},
			Body: []byte("\x00\xff4111111111111111" + strings.Repeat("body ", 100)),
		}))
	}))
	key, err := sc.DoFlow(ctx, value, secretRequest, flow)
	mustBe(t, err, nil)
	return key
}

func TestS9_EncodedValuesAreReadAgainAndNotInRedis(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service(coded(mustCodec(t, secret("a")))).Scope("a")
		key := secretStages(t, sc, "k")
		again, err := sc.DoFlow(ctx, "k", secretRequest, mustFlow(t, cart()))
		mustBe(t, err, nil)
		read, err := sc.Retrieve(ctx, "k")
		mustBe(t, err, nil)
		for _, k := range []*redisidem.Key{again, read} {
			if !k.Replayed() || !bytes.Equal(k.Response.Body, key.Response.Body) || k.Response.Header["X-Card"][0] != "4111111111111111" ||
				string(k.Params) != `{"card":"4111111111111111"}` {
				t.Errorf("the replay is %+v with %+v", k, k.Response)
			}
		}
		raw := e.client()
		record, _ := e.place(key)
		for field, value := range raw.HGetAll(ctx, record).Val() {
			if strings.Contains(value, "41111111") { // the time in a journal entry may contain a shorter part
				t.Errorf("%s is %q", field, value)
			}
			if field == "response_body" && len(value) > 200 {
				t.Errorf("%d bytes are not compressed: %d", len(key.Response.Body), len(value))
			}
		}
	})
}

func TestS9_KeysOfTheRingCanBeChanged(t *testing.T) {
	inBubble(t, func(b *bubble) {
		with := func(keys ...codec.EncryptionKey) *redisidem.Scope {
			cfg := redisidem.Config{Codec: mustCodec(b, keys...)}
			return b.service(cfg).Scope("a")
		}
		var want []byte
		for i, ring := range [][]codec.EncryptionKey{
			{secret("old")}, {secret("old"), secret("new")}, {secret("new"), secret("old")}, {secret("third"), secret("new"), secret("old")},
		} {
			sc := with(ring...)
			key := secretStages(b, sc, fmt.Sprint(i))
			want = key.Response.Body
			for j := range i + 1 {
				key, err := sc.Retrieve(ctx, fmt.Sprint(j))
				mustBe(b, err, nil)
				if !bytes.Equal(key.Response.Body, want) {
					b.Errorf("ring %d reads key %d as %q", i, j, key.Response.Body)
				}
			}
		}
		_, err := with(secret("third")).Retrieve(ctx, "0")
		mustBe(b, err, redisidem.ErrDamaged)
		if !strings.Contains(err.Error(), `unknown encryption key "old"`) {
			b.Errorf("the error is %v", err)
		}
	})
}

// TestS9_ValuesDecodeOnlyWhereTheyWereStored moves encrypted values, as an attacker with access to
// Redis could.
func TestS9_ValuesDecodeOnlyWhereTheyWereStored(t *testing.T) {
	inBubble(t, func(b *bubble) {
		encrypted := mustCodec(b, secret("a"))
		sc := b.service(redisidem.Config{Codec: encrypted}).Scope("a")
		plain := b.service(redisidem.Config{}).Scope("a")
		lenient := b.service(redisidem.Config{Codec: codec.Optional(encrypted)}).Scope("a")
		mine, other := secretStages(b, sc, "mine"), secretStages(b, sc, "other")
		unencoded := secretStages(b, plain, "plain")
		record := func(k *redisidem.Key) string {
			for _, name := range b.server.Keys() {
				if strings.HasSuffix(name, k.ID()) {
					return name
				}
			}
			return ""
		}
		get := func(k *redisidem.Key, field string) string { return b.server.HGet(record(k), field) }
		for _, c := range []struct{ field, value string }{
			{"response_body", get(other, "response_body")},
			{"response_body", get(mine, "response_headers")},
			{"response_headers", get(other, "response_headers")},
			{"request_params", get(other, "request_params")},
			{"state", get(other, "state")},
			{"response_code", "200"},
			{"response_body", get(unencoded, "response_body")},
			{"response_body", ""},
			{"response_headers", ""},
			{"response_body", get(mine, "response_body") + "x"},
			{"response_body", get(mine, "response_body")[:20]},
			{"response_body", get(mine, "response_body")[:8]},
			{"fingerprint", "1:another"},
		} {
			before := get(mine, c.field)
			b.server.HSet(record(mine), c.field, c.value)
			if _, err := sc.Retrieve(ctx, "mine"); !errors.Is(err, redisidem.ErrDamaged) {
				b.Errorf("%s as %q: error is %v", c.field, c.value, err)
			}
			key, err := sc.Do(ctx, "mine", secretRequest, never(b)) // which must not take it for absent
			if c.field == "request_params" || c.field == "state" {  // which a replay does not read
				mustBe(b, err, nil)
				if !bytes.Equal(key.Response.Body, mine.Response.Body) || string(key.Params) != `{"card":"4111111111111111"}` {
					b.Errorf("%s: the replay has %q and %q", c.field, key.Response.Body, key.Params)
				}
			} else if !errors.Is(err, redisidem.ErrDamaged) && !errors.Is(err, redisidem.ErrFingerprintMismatch) {
				b.Errorf("%s: error is %v", c.field, err)
			}
			b.server.HSet(record(mine), c.field, before)
		}
		_, err := sc.Retrieve(ctx, "mine")
		mustBe(b, err, nil)
		_, err = plain.Retrieve(ctx, "mine") // a process without the codec must not return encoded values
		mustBe(b, err, redisidem.ErrDamaged)
		_, err = sc.Retrieve(ctx, "plain")
		mustBe(b, err, redisidem.ErrDamaged)
		key, err := lenient.Retrieve(ctx, "plain")
		mustBe(b, err, nil)
		if !bytes.Equal(key.Response.Body, unencoded.Response.Body) {
			b.Errorf("the plain value is read as %q", key.Response.Body)
		}
	})
}

func TestPlainValuesThatLookEncodedAreKept(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		coder := b.service(redisidem.Config{Codec: codec.Optional(mustCodec(b, secret("a")))}).Scope("a")
		for i, body := range []string{"\x00\xffridem\x01c", "\x00\xffridem\x01p", "\x00\xffridem\x01", "\x00\xffridem\x01cx", "\x00\xff"} {
			value := fmt.Sprint(i)
			_, err := sc.Do(ctx, value, redisidem.Request{Params: []byte(body)}, outcome(redisidem.Finish(redisidem.Response{Code: 200, Body: []byte(body)}).
				WithState([]byte(body))))
			mustBe(b, err, nil)
			for _, reader := range []*redisidem.Scope{sc, coder} {
				key, err := reader.Retrieve(ctx, value)
				mustBe(b, err, nil)
				if string(key.Response.Body) != body || string(key.Params) != body {
					b.Errorf("%q is read as %q and %q", body, key.Response.Body, key.Params)
				}
			}
		}
	})
}

func TestUpdateOfAKeyMadeByHandKeepsItsValuesReadable(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Codec: mustCodec(b, secret("a"))}).Scope("a")
		start(b, sc, "k")
		_, err := sc.Update(ctx, &redisidem.Key{Value: "k", Scope: "a", RecoveryPoint: "elsewhere"}, redisidem.Advance("on"))
		mustBe(b, err, redisidem.ErrStale)
		_, err = sc.Update(ctx, &redisidem.Key{Value: "k", Scope: "a", RecoveryPoint: redisidem.Started}, redisidem.Finish(redisidem.JSON(200, "by hand")))
		mustBe(b, err, nil)
		key, err := sc.Do(ctx, "k", request, never(b))
		mustBe(b, err, nil)
		if string(key.Response.Body) != `"by hand"` {
			b.Errorf("the body is %q", key.Response.Body)
		}
		_, err = sc.Update(ctx, &redisidem.Key{Value: "k", Scope: "a", RecoveryPoint: redisidem.Started}, redisidem.Advance("on"))
		mustBe(b, err, redisidem.ErrFinished)
	})
}

// failing is a codec that cannot encode.
type failing struct{}

func (failing) Encode([]byte, []byte) ([]byte, error) { return nil, errStage }

func (failing) Decode([]byte, []byte, int) ([]byte, error) { return nil, errStage }

func TestCodecThatFailsStoresNothingOfAResult(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Codec: failing{}}).Scope("a")
		_, err := sc.InitializeRequest(ctx, "k", request)
		mustBeInvalid(b, err, "request_params", "away")
		bare := redisidem.Request{Method: "POST", Path: "/"}
		key, err := sc.Do(ctx, "bare", bare, finish("done"))
		mustBeInvalid(b, err, "response_headers", "away")
		mustBe(b, err, redisidem.ErrNotKept)
		if !key.Finished() || !key.Response.IsZero() {
			b.Errorf("the key is %+v", key)
		}
		_, err = sc.Do(ctx, "bare", bare, never(b))
		mustBe(b, err, redisidem.ErrNotKept)
	})
}

// hexCodec is a codec that doubles the length of values.
type hexCodec struct{}

func (hexCodec) Encode(plain, _ []byte) ([]byte, error) { return hex.AppendEncode(nil, plain), nil }

func (hexCodec) Decode(stored, _ []byte, limit int) ([]byte, error) {
	if hex.DecodedLen(len(stored)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return hex.AppendDecode(nil, stored)
}

// TestS9_WhatAnEncryptedValueIsBoundTo checks the list in docs/security.md: the changes that a
// writer to Redis can make to each field of a record with encrypted values, and whether they are
// detected.
func TestS9_WhatAnEncryptedValueIsBoundTo(t *testing.T) {
	const absent = "\x00"
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Codec: mustCodec(b, secret("a"))}).Scope("a")
		record := func(k *redisidem.Key) string {
			for _, name := range b.server.Keys() {
				if strings.HasSuffix(name, k.ID()) {
					return name
				}
			}
			b.Fatalf("no record of %s", k.Value)
			return ""
		}
		fields := func(k *redisidem.Key) map[string]string {
			all := map[string]string{}
			names, err := b.server.HKeys(record(k))
			mustBe(b, err, nil)
			for _, name := range names {
				all[name] = b.server.HGet(record(k), name)
			}
			return all
		}
		answer := func(body string) redisidem.Response {
			return redisidem.Response{Code: 201, Header: map[string][]string{"X-Card": {body}}, Body: []byte(body)}
		}
		// live finishes a key after an interim answer with the same status, and returns its fields
		// after the interim answer and at the end.
		live := func(value, text string) (early, final map[string]string, key *redisidem.Key) {
			for _, o := range []redisidem.Outcome{
				redisidem.Interim("two", answer(text+" early")).WithState(text + " early"),
				redisidem.Advance("three").WithState(text),
				redisidem.Finish(answer(text)),
			} {
				var err error
				key, err = sc.Do(ctx, value, secretRequest, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, nil })
				mustBe(b, err, nil)
				if early == nil {
					early = fields(key)
				}
			}
			return early, fields(key), key
		}
		_, foreign, _ := live("other", "other")
		_, past, key := live("mine", "past")
		mustBe(b, sc.Delete(ctx, key), nil)
		time.Sleep(time.Second)
		early, now, key := live("mine", "now")

		for _, c := range []struct {
			field, how, value string
			found             bool
		}{
			{"request_params", "removed", absent, false},
			{"request_params", "of another key", foreign["request_params"], true},
			{"request_params", "of an earlier life", past["request_params"], false},
			{"state", "removed", absent, false},
			{"state", "of another key", foreign["state"], true},
			{"state", "of an earlier commit", early["state"], false},
			{"state", "of an earlier life", past["state"], false},
			{"response_headers", "removed", absent, false},
			{"response_headers", "of another key", foreign["response_headers"], true},
			{"response_headers", "of an earlier commit", early["response_headers"], false},
			{"response_headers", "of an earlier life", past["response_headers"], false},
			{"response_body", "removed", absent, true},
			{"response_body", "of another key", foreign["response_body"], true},
			{"response_body", "of an earlier commit", early["response_body"], false},
			{"response_body", "of an earlier life", past["response_body"], false},
			{"response_code", "removed", absent, true},
			{"response_code", "another", "200", true},
			{"fingerprint", "removed", absent, true},
			{"fingerprint", "another", "1:another", true},
			{"request", "another method", strings.Replace(now["request"], " 4 ", " 3 ", 1), true}, // its parts do not fit
			{"recovery_point", "another", "two", false},
			{"control", "of an earlier life", past["control"], false},
		} {
			if now[c.field] == c.value {
				b.Errorf("%s %s is the same", c.field, c.how)
			}
			if c.value == absent {
				b.server.HDel(record(key), c.field)
			} else {
				b.server.HSet(record(key), c.field, c.value)
			}
			_, err := sc.Retrieve(ctx, "mine")
			if found := errors.Is(err, redisidem.ErrDamaged); found != c.found || !found && err != nil {
				b.Errorf("%s %s: found %t, want %t: %v", c.field, c.how, found, c.found, err)
			}
			b.server.HSet(record(key), c.field, now[c.field])
		}
		_, err := sc.Retrieve(ctx, "mine")
		mustBe(b, err, nil)
	})
}
