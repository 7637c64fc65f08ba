package redisidem_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/redisidem/redisidem/redisidem"
)

// The files testdata/record-v1-*.json are records of schema version 1, as the library that introduced it wrote them. They
// stand for the records in production that a newer library finds, so never change them: a change that needs it breaks
// those, too. A new version gets new files, which this flag makes; it leaves those alone that are there.
var writeFixtures = flag.Bool("fixtures", false, "write the record fixtures that are missing in testdata")

// fixture is one frozen record.
type fixture struct {
	Scope, Key string
	Request    redisidem.Request
	// Fields are the hash in Redis; Binary those of its values that are no UTF-8, which is base64 in the file.
	Fields map[string]string
	Binary map[string][]byte
	// Want is what Retrieve made of it.
	Want redisidem.Key
}

func fixturePath(name string) string { return filepath.Join("testdata", "record-v1-"+name+".json") }

// ride is the state that the fixtures hold.
type ride struct{ Driver string }

// fixtures are the kinds of records: how each is made, and what the next run of its stage must see.
var fixtures = []struct {
	name    string
	attempt int  // of the next run
	state   bool // an earlier stage left one
	make    func(ctx context.Context, svc *redisidem.Service, sc *redisidem.Scope, key *redisidem.Key) error
}{
	{"started", 1, false, func(context.Context, *redisidem.Service, *redisidem.Scope, *redisidem.Key) error { return nil }},
	{"leased", 2, false, func(ctx context.Context, _ *redisidem.Service, sc *redisidem.Scope, key *redisidem.Key) error {
		_, err := sc.Lock(ctx, key.Value) // and its worker dies
		return err
	}},
	{"advanced", 2, true, func(ctx context.Context, _ *redisidem.Service, sc *redisidem.Scope, key *redisidem.Key) error {
		key, err := sc.WorkStage(ctx, key, outcome(redisidem.Advance("ride_created").WithState(ride{"Ada"})))
		if err != nil {
			return err
		}
		failure := errors.New("no answer")
		_, err = sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, failure
		})
		if errors.Is(err, failure) {
			return nil
		}
		return errors.Join(errors.New("the stage did not fail"), err)
	}},
	{"interim", 1, true, func(ctx context.Context, _ *redisidem.Service, sc *redisidem.Scope, key *redisidem.Key) error {
		_, err := sc.WorkStage(ctx, key, outcome(
			redisidem.Interim("confirm", redisidem.JSON(202, "please confirm")).WithState(ride{"Ada"})))
		return err
	}},
	{"buried", 3, true, func(ctx context.Context, svc *redisidem.Service, sc *redisidem.Scope, key *redisidem.Key) error {
		failure := errors.New("no answer")
		flow, err := redisidem.NewFlow(redisidem.FlowConfig{
			Name: "rides", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 1,
			Stages: []redisidem.FlowStage{
				{Point: redisidem.Started, Work: outcome(redisidem.Next().WithState(ride{"Ada"}))},
				{Point: "ride_created", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Outcome{}, failure
				}},
			},
		})
		if err != nil {
			return err
		}
		if _, err := sc.WorkFlow(ctx, key, flow); !errors.Is(err, failure) {
			return errors.Join(errors.New("the stage did not fail"), err)
		}
		completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, nil)
		if err != nil {
			return err
		}
		for range 1000 {
			if swept, err := completer.Sweep(ctx); err != nil || swept.DeadLettered == 1 {
				return err
			}
		}
		return errors.New("the key was not given up")
	}},
	{"finished", 0, true, func(ctx context.Context, _ *redisidem.Service, sc *redisidem.Scope, key *redisidem.Key) error {
		key, err := sc.WorkStage(ctx, key, outcome(redisidem.Advance("charged").WithState(ride{"Ada"})))
		if err != nil {
			return err
		}
		_, err = sc.WorkStage(ctx, key, outcome(redisidem.Finish(redisidem.Response{
			Code:   201,
			Header: map[string][]string{"Content-Type": {"image/png"}, "Set-Cookie": {"a=1", "b=caf\xe9"}},
			Body:   []byte("\x89PNG\r\n\x00\xff"),
		})))
		return err
	}},
}

func outcome(o redisidem.Outcome) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, nil }
}

func TestRecordsOfVersion1AreReadAndContinued(t *testing.T) {
	if *writeFixtures {
		writeMissingFixtures(t)
	}
	onEveryServer(t, func(t *testing.T, e *env) {
		for _, kind := range fixtures {
			t.Run(kind.name, func(t *testing.T) {
				text, err := os.ReadFile(fixturePath(kind.name))
				mustBe(t, err, nil)
				var f fixture
				mustBe(t, json.Unmarshal(text, &f), nil)
				sc, raw := e.service().Scope(f.Scope), e.client()

				// The place depends on the namespace, which is the test's.
				made, err := sc.InitializeRequest(ctx, f.Key, f.Request)
				mustBe(t, err, nil)
				record, _ := e.place(made)
				mustBe(t, raw.Del(ctx, record).Err(), nil)
				fields := maps.Clone(f.Fields)
				for field, value := range f.Binary {
					fields[field] = string(value)
				}
				mustBe(t, raw.HSet(ctx, record, fields).Err(), nil)
				mustBe(t, raw.PExpire(ctx, record, time.Hour).Err(), nil)

				key, err := sc.Retrieve(ctx, f.Key)
				mustBe(t, err, nil)
				if got, want := asText(t, key), asText(t, &f.Want); got != want {
					t.Errorf("decoded to\n%s\nwant\n%s", got, want)
				}
				if kind.attempt == 0 {
					mustReplay(t, sc, &f)
					if got := raw.HGetAll(ctx, record).Val(); !maps.Equal(got, fields) {
						t.Errorf("the replay changed the record to %q", got)
					}
					return
				}
				next, err := sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					if st.Attempt() != kind.attempt || st.Key().RecoveryPoint != f.Want.RecoveryPoint {
						t.Errorf("attempt %d at %s, want %d", st.Attempt(), st.Key().RecoveryPoint, kind.attempt)
					}
					for _, entry := range f.Want.Journal {
						if st.Fence() <= entry.Fence {
							t.Errorf("the fence %d is no larger than %d", st.Fence(), entry.Fence)
						}
					}
					var left ride
					if err := st.State(&left); kind.state && (err != nil || left.Driver != "Ada") ||
						!kind.state && !errors.Is(err, redisidem.ErrNoState) {
						t.Errorf("the state is %+v, %v", left, err)
					}
					return redisidem.Finish(redisidem.JSON(200, "continued")), nil
				})
				mustBe(t, err, nil)
				if next.Revision != f.Want.Revision+1 || next.Attempts != f.Want.Attempts+1 || !next.Finished() {
					t.Errorf("continued to %+v", next)
				}
				// The request is known by its fingerprint.
				again, err := sc.Do(ctx, f.Key, f.Request, never(t))
				mustBe(t, err, nil)
				if !again.Replayed() || string(again.Response.Body) != `"continued"` {
					t.Errorf("the replay is %+v", again)
				}
				e.mustBeTidy(raw)
			})
		}
	})
}

// mustReplay checks that each way to ask for a finished key gives the stored bytes.
func mustReplay(t *testing.T, sc *redisidem.Scope, f *fixture) {
	t.Helper()
	key, err := sc.Do(ctx, f.Key, f.Request, never(t))
	mustBe(t, err, nil)
	other, err := sc.InitializeRequest(ctx, f.Key, f.Request)
	mustBe(t, err, nil)
	for _, k := range []*redisidem.Key{key, other} {
		r := k.Response
		if !k.Replayed() || r == nil || r.Code != 201 || !bytes.Equal(r.Body, []byte("\x89PNG\r\n\x00\xff")) {
			t.Errorf("the replay is %+v with %+v", k, r)
			continue
		}
		want := map[string][]string{"Content-Type": {"image/png"}, "Set-Cookie": {"a=1", "b=caf\xe9"}}
		if !maps.EqualFunc(r.Header, want, slices.Equal) {
			t.Errorf("the header is %q", r.Header)
		}
	}
	req := f.Request
	req.Path += "/other"
	_, err = sc.Do(ctx, f.Key, req, never(t))
	mustBe(t, err, redisidem.ErrFingerprintMismatch)
}

func asText(t *testing.T, key *redisidem.Key) string {
	t.Helper()
	text, err := json.MarshalIndent(key, "", "  ")
	mustBe(t, err, nil)
	// What is no UTF-8 in a header is a replacement character in JSON, which is written in one way or the other.
	return strings.ReplaceAll(string(text), `\ufffd`, "\ufffd")
}

// writeMissingFixtures lets the present library write records, and freezes them.
func writeMissingFixtures(t *testing.T) {
	t.Helper()
	client, err := standalone.client(3)
	mustBe(t, err, nil)
	defer func() { _ = client.Close() }()
	e := &env{t: t, namespace: freshNamespace()}
	cfg := e.config()
	cfg.Owner = "rides-7f9c/17"
	svc, err := redisidem.New(client, &cfg)
	mustBe(t, err, nil)
	for _, kind := range fixtures {
		if _, err := os.Stat(fixturePath(kind.name)); err == nil {
			continue
		}
		f := fixture{
			Scope: "tenant-42 {é}", Key: "key-" + kind.name, Binary: make(map[string][]byte),
			Request: redisidem.Request{Method: "POST", Path: "/rides", Params: map[string]any{"cents": 1200}},
		}
		sc := svc.Scope(f.Scope)
		key, err := sc.InitializeRequest(ctx, f.Key, f.Request)
		mustBe(t, err, nil)
		mustBe(t, kind.make(ctx, svc, sc, key), nil)
		list, err := client.Keys(ctx, e.namespace+":*:"+key.ID()).Result()
		mustBe(t, err, nil)
		f.Fields = client.HGetAll(ctx, list[0]).Val()
		for field, value := range f.Fields {
			if !utf8.ValidString(value) {
				f.Binary[field] = []byte(value)
				delete(f.Fields, field)
			}
		}
		now, err := sc.Retrieve(ctx, f.Key)
		mustBe(t, err, nil)
		f.Want = *now
		text, err := json.MarshalIndent(f, "", "\t")
		mustBe(t, err, nil)
		mustBe(t, os.WriteFile(fixturePath(kind.name), append(text, '\n'), 0o644), nil)
	}
}
