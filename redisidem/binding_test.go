package redisidem_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestS9_WhatAnEncryptedValueIsBoundTo holds the list in docs/security.md: what a writer to Redis
// can do to each field of a record whose values are encrypted, and whether it is found.
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
		// live brings a key to its end by way of an interim answer with the same status, and
		// returns its fields then and at the end.
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
			{"request_method", "another", "PUT", false},
			{"request_path", "another", "/another", false},
			{"recovery_point", "another", "two", false},
			{"created_at", "of an earlier life", past["created_at"], false},
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
