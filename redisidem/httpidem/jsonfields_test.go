package httpidem_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestS4_DeepAndLargeBodiesAreBounded gives the fingerprint of JSON fields what would take a
// careless reader's stack or hours.
func TestS4_DeepAndLargeBodiesAreBounded(t *testing.T) {
	t.Parallel()
	fp := httpidem.Fingerprint{Func: httpidem.JSONFields("a", "b.c")}
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}}
	const deep, large = 100_000, 10 << 20
	seen := map[string]int{}
	for i, body := range []string{
		strings.Repeat("[", deep) + strings.Repeat("]", deep),
		strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep),
		`{"a":` + strings.Repeat("[", deep),
		`{"a":"` + strings.Repeat("x", large) + `"}`,
		`{"a":"` + strings.Repeat("x", large) + `","b":{"c":1}}`,
		`{"a":[` + strings.Repeat("1,", large/20) + `1]}`,
		strings.Repeat(" ", large),
	} {
		began := time.Now()
		sum, err := httpidem.FingerprintOf(fp, r, []byte(body))
		if err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("body %d took %v", i, took)
		}
		if other, taken := seen[sum]; taken {
			t.Errorf("body %d has the fingerprint of body %d", i, other)
		}
		seen[sum] = i
	}
}

func TestFieldsInOtherLettersAreNotOverlooked(t *testing.T) {
	t.Parallel()
	fp := httpidem.Fingerprint{Func: httpidem.JSONFields("amount", "to.iban")}
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}}
	for _, bodies := range [][2]string{
		{`{"Amount":1}`, `{"Amount":2}`},
		{`{"amount":1,"AMOUNT":1}`, `{"amount":1,"AMOUNT":2}`},
		{`{"to":{"IBAN":"X"}}`, `{"to":{"IBAN":"Y"}}`},
		{`{"To":{"iban":"X"}}`, `{"To":{"iban":"Y"}}`},
	} {
		one, _ := httpidem.FingerprintOf(fp, r, []byte(bodies[0]))
		two, _ := httpidem.FingerprintOf(fp, r, []byte(bodies[1]))
		if one == two {
			t.Errorf("%s and %s are taken for the same", bodies[0], bodies[1])
		}
	}
}

func TestBodiesWithoutAnyNamedFieldCountAsAWhole(t *testing.T) {
	t.Parallel()
	of := func(names []string, body string) string {
		fp := httpidem.Fingerprint{Func: httpidem.JSONFields(names...)}
		r := newRequest(t.Context(), "k", body)
		r.Header.Set("Content-Type", "application/json")
		sum, err := httpidem.FingerprintOf(fp, r, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	for _, names := range [][]string{{"amuont"}, {"payment.amuont", "to.iban"}, {"amount.cents"}, nil} {
		one, other := of(names, `{"amount":1,"to":{}}`), of(names, `{"amount":99999,"to":{}}`)
		if one == other {
			t.Errorf("%q: two amounts are one request", names)
		}
		if one != of(names, `{"amount":1,"to":{}}`) {
			t.Errorf("%q: the same body is another request", names)
		}
	}
	// One of them is enough, also if it is null, and what is absent is a value, too.
	names := []string{"amount", "to.iban"}
	if of(names, `{"amount":null,"sent":1}`) != of(names, `{"sent":2,"amount":null}`) {
		t.Error("a field that is not named counts")
	}
	if of(names, `{"amount":1}`) == of(names, `{"amount":1,"to":{"iban":null}}`) || of(names, `{"amount":null}`) == of(names, `{}`) {
		t.Error("absent is null")
	}
}

func TestFieldsThatNoBodyHasCannotBeNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "/amount", "/to/iban", ".amount", "amount.", "to..iban", ".", "a\xff", "a\ufffd"} {
		err := httpidem.CheckJSONFields("fine", name)
		var refused *redisidem.InvalidError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), strconv.Quote(name)) {
			t.Errorf("%q: %v", name, err)
		}
		func() {
			defer func() {
				if got, _ := recover().(error); !errors.As(got, &refused) {
					t.Errorf("JSONFields(%q): %v", name, got)
				}
			}()
			httpidem.JSONFields("fine", name)
		}()
	}
	if err := httpidem.CheckJSONFields("amount", "to.iban", "a/b", "grün", "x y"); err != nil {
		t.Error(err)
	}
}

// FuzzJSONFields checks that what selected fields come to depends on their values alone: two bodies
// have the same fingerprint exactly when encoding/json finds the same values in them, or when they
// are the same bytes.
func FuzzJSONFields(f *testing.F) {
	for _, s := range []string{
		`{"a":1}`, `{"a":1.0}`, `{"a":{"b":[1,2,{"c":null}]}}`, `{"a":1,"a":2}`, `[1]`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `{"a":1}{}`, "", "null",
		`{"a": 12345678901234567890}`, `{"a":1e400}`, strings.Repeat(`{"a":`, 200), strings.Repeat("[", 1000),
	} {
		f.Add([]byte(s), []byte(`{"a":1}`))
	}
	fp := httpidem.Fingerprint{Func: httpidem.JSONFields("a", "x.y")}
	f.Fuzz(func(t *testing.T, b1, b2 []byte) {
		r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}}
		one, err1 := httpidem.FingerprintOf(fp, r, b1)
		two, err2 := httpidem.FingerprintOf(fp, r, b2)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if one != two {
			return
		}
		v1, ok1 := selected(b1)
		v2, ok2 := selected(b2)
		if ok1 != ok2 || v1 != v2 {
			t.Fatalf("%q and %q have the same fingerprint", b1, b2)
		}
	})
}

// selected returns what encoding/json finds in the fields a and x.y of an object, or the bytes of
// what has neither.
func selected(b []byte) (string, bool) {
	var o map[string]any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&o); err != nil || o == nil {
		return string(b), false
	}
	x, _ := o["x"].(map[string]any)
	a, hasA := o["a"]
	y, hasY := x["y"]
	if !hasA && !hasY {
		return string(b), false
	}
	text, err := json.Marshal([]any{hasA, a, hasY, y})
	return string(text), err == nil
}
