package httpidem_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestConfigErrorsNameFieldAndBound(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{MaxKeyBytes: 100, MaxValueBytes: 1000})
	for field, cfg := range map[string]httpidem.Config{
		"Config.Methods":              {Methods: []string{}},
		"Config.Key.Header":           {Key: httpidem.KeyConfig{Header: "a b"}},
		"Config.Key.MaxBytes":         {Key: httpidem.KeyConfig{MaxBytes: 101}},
		"Config.Key.Prefix":           {Key: httpidem.KeyConfig{Prefix: strings.Repeat("x", 100)}},
		"Config.MaxBodyBytes":         {MaxBodyBytes: -1},
		"Config.Response.MaxBytes":    {Response: httpidem.ResponseConfig{MaxBytes: 1001}},
		"Config.MaxRetryAfter":        {MaxRetryAfter: time.Millisecond},
		"Config.MaxWaiting":           {MaxWaiting: -1},
		"Config.Profile":              {Profile: 9},
		"Config.ReplayHeader":         {ReplayHeader: "a b"},
		"Config.Response.KeepHeaders": {Response: httpidem.ResponseConfig{KeepHeaders: []string{"set-cookie"}}},
		"Config.OtherFingerprints":    {OtherFingerprints: []httpidem.Fingerprint{{}}},
		"Config.PolicyURL":            {PolicyURL: "/relative"},
		"Config.PassTooLarge":         {PassTooLarge: true},
	} {
		_, err := httpidem.New(svc, httpidem.Unscoped, &cfg)
		var invalid *redisidem.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != "httpidem."+field || invalid.Reason == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, cfg := range []httpidem.Config{
		{Methods: []string{"PO ST"}},
		{MaxBodyBytes: math.MaxInt64},
		{Response: httpidem.ResponseConfig{KeepHeaders: []string{"Access-Control-Allow-Origin"}}},
		{Response: httpidem.ResponseConfig{KeepHeaders: []string{"Idempotency-Key"}}},
		{Response: httpidem.ResponseConfig{KeepHeaders: []string{"idempotent-replayed"}}},
		{Key: httpidem.KeyConfig{Header: "X-Key"}, Response: httpidem.ResponseConfig{KeepHeaders: []string{"x-key"}}},
		{ReplayHeader: strings.Repeat("x", 65)},
		{ReplayHeader: "idempotency-key"},
		{ReplayHeader: "X-Key", Key: httpidem.KeyConfig{Header: "x-key"}},
		{ReplayHeader: "location"},
		{ReplayHeader: "X-A", Response: httpidem.ResponseConfig{KeepHeaders: []string{"x-a"}}},
		{ReplayHeader: "Content-Length"},
		{ReplayHeader: httpidem.ShouldRetryHeader},
		{PolicyURL: "https://a.example/#b"},
		{PolicyURL: "https://a.example/>"},
		{Response: httpidem.ResponseConfig{KeepHeaders: []string{"Redisidem-Not-Kept"}}},
		{Key: httpidem.KeyConfig{MaxBytes: -1}},
		{Key: httpidem.KeyConfig{MaxBytes: 99, Prefix: "no"}},
		{Response: httpidem.ResponseConfig{MaxBytes: -1}},
	} {
		if _, err := httpidem.New(svc, httpidem.Unscoped, &cfg); !errors.Is(err, redisidem.ErrInvalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	if _, err := httpidem.New(nil, httpidem.Unscoped, nil); !errors.Is(err, redisidem.ErrInvalid) {
		t.Errorf("no service: %v", err)
	}
}
