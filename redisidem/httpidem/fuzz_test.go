package httpidem_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/redisidem/redisidem/internal/httptoken"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// FuzzTimeOfKey checks that a key with its creation time has the same time in capitals and in
// small letters, and that every other one is refused.
func FuzzTimeOfKey(f *testing.F) {
	for _, s := range []string{
		idemclient.NewTimeKey(), idemclient.NewKey(), ulidAt(time.Now()), strings.Repeat("Z", 26), strings.Repeat("7Z", 13), "", strings.Repeat("\xff", 26),
		"{" + idemclient.NewTimeKey()[:34] + "}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		made, ok := httpidem.TimeOf(key)
		upper, okUpper := httpidem.TimeOf(strings.ToUpper(key))
		lower, okLower := httpidem.TimeOf(strings.ToLower(key))
		if len(key) == len(strings.ToUpper(key)) && (ok != okUpper || ok != okLower || !made.Equal(upper) || !made.Equal(lower)) {
			t.Fatalf("%q was made at %v, %v or %v", key, made, upper, lower)
		}
		if ok && (made.Before(time.UnixMilli(0)) || made.UnixMilli() >= 1<<48) {
			t.Fatalf("%q was made at %v", key, made)
		}
		if ok && len(key) == 26 && !strings.EqualFold(ulidAt(made)[:10], key[:10]) {
			t.Fatalf("%q was made at %v, when keys began with %s", key, made, ulidAt(made)[:10])
		}
		err := httpidem.KeysWithin(time.Hour, time.Hour)(key)
		var syntax *idemheader.SyntaxError
		if ok == errors.As(err, &syntax) {
			t.Fatalf("%q: a time: %v; error %v", key, ok, err)
		}
	})
}

// FuzzLists checks that what was added to a list header is found in it, whatever stood there.
func FuzzLists(f *testing.F) {
	f.Add("Vary", "Accept, Idempotency-Key", "origin")
	f.Add("Vary", "*", "X")
	f.Add("Vary", ",,", "X")
	f.Fuzz(func(t *testing.T, field, there, name string) {
		if !httptoken.Valid(field) || !httptoken.Valid(name) {
			return
		}
		h := http.Header{http.CanonicalHeaderKey(field): {there}}
		httpidem.AddToList(h, http.CanonicalHeaderKey(field), name)
		if !httpidem.InList(h.Values(field), name) {
			t.Fatalf("%q is not in %q", name, h)
		}
		before := len(h.Values(field))
		httpidem.AddToList(h, http.CanonicalHeaderKey(field), name)
		if after := len(h.Values(field)); after != before {
			t.Fatalf("added twice: %q", h)
		}
	})
}

// FuzzPointers checks that a JSON pointer finds what a decoder of the whole document finds.
func FuzzPointers(f *testing.F) {
	f.Add([]byte(`{"data":{"id":"evt_1"},"list":[1,{"a/b":null}]}`), "data", "id")
	f.Add([]byte(`{"a":"x","a":"y"}`), "a", "")
	f.Add([]byte(`[["x"]]`), "0", "0")
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	f.Fuzz(func(t *testing.T, document []byte, first, second string) {
		var whole any
		if json.Unmarshal(document, &whole) != nil || !utf8.Valid(document) {
			return
		}
		got, err := httpidem.Pointed(document, "/"+escape.Replace(first)+"/"+escape.Replace(second))
		if err != nil { // a member twice: the decoder has the last one
			return
		}
		want, found := whole, true
		for _, name := range []string{first, second} {
			switch value := want.(type) {
			case map[string]any:
				want, found = value[name]
			case []any:
				i, err := strconv.Atoi(name)
				if found = err == nil && i >= 0 && i < len(value) && strconv.Itoa(i) == name; found {
					want = value[i]
				}
			default:
				found = false
			}
			if !found {
				break
			}
		}
		var value any
		if (got != nil) != found || found && (json.Unmarshal(got, &value) != nil || !reflect.DeepEqual(value, want)) {
			t.Fatalf("%q and %q in %s: %s, want %v", first, second, document, got, want)
		}
	})
}
