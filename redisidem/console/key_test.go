package console_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

func TestKeyShowsItsRecord(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for scope, texts := range map[string][]string{
		"dead":        {"a completer gave it up", "Dead because", "order/1", "commit of started", "took ", "by worker-1", "became a dead letter", "paid, revision 1", "acts/requeue"},
		"finished":    {"retries get the stored answer", "<dd>201</dd>", "POST /orders?&lt;i&gt;", "acts/read", " if nothing changes"},
		"in-flight":   {"Lease given", "Lease of", "<dd>worker-1</dd>", "Lease left", "<dd>1h</dd>", "lease given at started", "acts/unlock"},
		"abandoned":   {"its worker is gone", "Lease given"},
		"interrupted": {"1, 1 of them since the last commit", "Last failure", "attempt 1 by worker-1: the provider is away", "acts/resolve"},
		"interim":     {"waits for its client"},
		"idle":        {"no work is under way", "None."},
		"unreadable":  {"the record cannot be read", ">damaged record: unknown schema version", "acts/delete"},
		"encrypted":   {"The values need the programs' codec", "<dd>201</dd>", "encrypted"},
	} {
		page := s.get("/keys/"+s.ids[scope], 200)
		mustHave(t, page, texts...)
		mustHave(t, page, s.ids[scope], `href="../audit?key=`+s.ids[scope])
		mustLack(t, page, secretBody, "secret of a c")
	}
	mustLack(t, s.get("/keys/"+s.ids["finished"], 200), "acts/unlock", "acts/resolve", "acts/requeue", "Lease given")
	mustHave(t, s.get("/keys/"+s.svc.Scope("none").ID("none"), http.StatusNotFound), "no such key")
	mustHave(t, s.get("/keys/x", http.StatusBadRequest), "32 characters")
	mustLack(t, s.get("/keys/"+s.ids["idle"]+"?done=<b>", 200), "<b>", "The key was")
}

func TestValuesThatAreLargeOrNotText(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for name, c := range map[string]struct {
		body []byte
		want []string
	}{
		"large":  {bytes.Repeat([]byte("é"), 200<<10), []string{"409\u202f600 bytes, of which the first 262\u202f144 bytes are shown", "éé"}},
		"cut":    {append([]byte("x"), bytes.Repeat([]byte("é"), 200<<10)...), []string{"262\u202f143 bytes are shown", "xéé"}},
		"binary": {[]byte("\xff\x00<"), []string{"not text in UTF-8", `&#34;\xff\x00&lt;&#34;`}},
	} {
		sc := s.svc.Scope(name)
		s.ids[name] = sc.ID("order-1")
		_, err := sc.Do(t.Context(), "order-1", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.Response{Code: 200, Body: c.body}), nil
		})
		s.must(err)
		page := s.post("/acts/read", s.form(name), 200)
		for _, want := range c.want {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page has no %q", name, want)
			}
		}
	}
}

// TestKeySaysThatItsLastFailureCannotBeRead has a failure that was stored with another codec.
func TestKeySaysThatItsLastFailureCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	values, err := codec.NewEncryption(codec.EncryptionKey{ID: "k1", Secret: bytes.Repeat([]byte("s"), 32)})
	s.must(err)
	sc := s.open(values).Scope("failed")
	_, err = sc.Do(t.Context(), "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Outcome{}, errProvider
	})
	if !errors.Is(err, errProvider) {
		t.Fatal(err)
	}
	mustHave(t, s.site().get("/keys/"+sc.ID("k"), 200), "attempt 1 by worker-1. Its text cannot be read: damaged record: last_failure is encoded")
}
