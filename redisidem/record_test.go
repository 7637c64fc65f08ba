package redisidem_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// The files testdata/record-v2-*.json are records of schema version 2, as the library that
// introduced it wrote them. They stand for the records in production that a newer library finds, so
// never change them: a change that needs it breaks those too. A new version gets new files. This
// flag writes missing files and leaves the others alone.
var writeFixtures = flag.Bool("fixtures", false, "write the record fixtures that are missing in testdata")

// fixture is one frozen record.
type fixture struct {
	Scope, Key string
	Request    redisidem.Request
	// Fields are the hash in Redis. Binary are the values that are not UTF-8, in base64.
	Fields map[string]string
	Binary map[string][]byte
	// Want is the key that Retrieve returned.
	Want redisidem.Key
}

func fixturePath(name string) string { return filepath.Join("testdata", "record-v2-"+name+".json") }

// ride is the state that the fixtures hold.
type ride struct{ Driver string }

// fixtures are the kinds of records, with a function that makes one and the values that its next
// stage must see.
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
	{"buried", 2, true, func(ctx context.Context, svc *redisidem.Service, sc *redisidem.Scope, key *redisidem.Key) error {
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

func TestRecordsOfVersion2AreReadAndContinued(t *testing.T) {
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

				// The name of the record depends on the namespace, which is that of the test.
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
							t.Errorf("the fence is %d, want more than %d", st.Fence(), entry.Fence)
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
				// The request is recognized by its fingerprint.
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

// mustReplay checks that each call that replays a finished key returns the stored bytes.
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
	// Invalid UTF-8 in a header is encoded as a replacement character, either escaped or not.
	return strings.ReplaceAll(string(text), `\ufffd`, "\ufffd")
}

// writeMissingFixtures writes records with the present library, and freezes them.
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

// TestS8_DamagedRecordIsNeitherAbsentNorOverwritten damages each part of a record. Work on it must
// be refused at once, and must leave the record as it is for repair.
func TestS8_DamagedRecordIsNeitherAbsentNorOverwritten(t *testing.T) {
	const record, lock = 0, 1
	set := func(field, value string) func(redis.UniversalClient, [2]string) error {
		return func(c redis.UniversalClient, place [2]string) error {
			return c.HSet(ctx, place[record], field, value).Err()
		}
	}
	del := func(field string) func(redis.UniversalClient, [2]string) error {
		return func(c redis.UniversalClient, place [2]string) error { return c.HDel(ctx, place[record], field).Err() }
	}
	word := func(number int, value string) func(redis.UniversalClient, [2]string) error {
		return func(c redis.UniversalClient, place [2]string) error {
			return setControl(c, place[record], number, value)
		}
	}
	for _, d := range []struct {
		name   string
		damage func(c redis.UniversalClient, place [2]string) error
		// late: only readers of the whole record notice it, after a lease was taken.
		late bool
		// unread: a replay does not read the damaged part.
		unread bool
	}{
		{name: "a string", damage: func(c redis.UniversalClient, place [2]string) error {
			return errors.Join(c.Del(ctx, place[record]).Err(), c.Set(ctx, place[record], "x", time.Hour).Err())
		}},
		{name: "a list", damage: func(c redis.UniversalClient, place [2]string) error {
			return errors.Join(c.Del(ctx, place[record]).Err(), c.RPush(ctx, place[record], "x").Err())
		}},
		{name: "another hash", damage: func(c redis.UniversalClient, place [2]string) error {
			return errors.Join(c.Del(ctx, place[record]).Err(), c.HSet(ctx, place[record], "x", "y").Err())
		}},
		{name: "no control", damage: del("control")},
		{name: "empty control", damage: set("control", "")},
		{name: "newer version", damage: word(controlVersion, "3")},
		{name: "older version", damage: word(controlVersion, "1")},
		{name: "longer version", damage: word(controlVersion, "20")},
		{name: "empty version", damage: word(controlVersion, "")},
		{name: "revision", damage: word(controlRevision, "x")},
		{name: "negative revision", damage: word(controlRevision, "-1")},
		{name: "broken revision", damage: word(controlRevision, "1.5")},
		{name: "empty token", damage: word(controlToken, "")},
		{name: "a word too many", damage: word(controlSpent, "- -")},
		{name: "no owner", damage: word(controlOwner, "")},
		{name: "no fingerprint", damage: del("fingerprint")},
		{name: "no recovery point", damage: del("recovery_point")},
		{name: "empty recovery point", damage: set("recovery_point", ""), late: true},
		{name: "fence", damage: word(controlFence, "x")},
		{name: "attempts of the revision", damage: word(controlStageAttempts, "x")},
		{name: "attempts", damage: word(controlAttempts, "x")},
		{name: "lease", damage: word(controlLease, "-1")},
		{name: "response code", damage: set("response_code", "x"), late: true},
		{name: "response code 99", damage: set("response_code", "99"), late: true},
		{name: "response code 600", damage: set("response_code", "600"), late: true},
		{name: "headers", damage: set("response_headers", "X: a\nb\r\n"), late: true},
		{name: "half a header", damage: set("response_headers", "X"), late: true},
		{name: "created at", damage: word(controlCreated, "yesterday")},
		{name: "request", damage: set("request", "1 1 4 a k"), late: true},
		{name: "no request", damage: del("request"), late: true},
		{name: "journal entry", damage: set("j:0", "x"), late: true},
		{name: "journal fence", damage: set("j:0", "1 t x 1 o started"), late: true},
		{name: "journal number", damage: set("j:x", "1 t 1 1 o started"), late: true, unread: true},
		{name: "another scope", damage: set("request", "1 1 4 b k POST /"), late: true},
		{name: "another key", damage: set("request", "1 5 4 a other POST /"), late: true},
		{name: "flow with a newline", damage: set("flow", "ca\nrt/1"), late: true},
		{name: "flow with a tag", damage: set("flow", "cart}/1"), late: true},
	} {
		for _, stored := range []string{"advanced", "finished"} {
			t.Run(d.name+" "+stored, func(t *testing.T) {
				onEveryServer(t, func(t *testing.T, e *env) {
					svc := e.service(func(c *redisidem.Config) { c.Timeout = time.Minute })
					sc, raw := svc.Scope("a"), e.client()
					key := start(t, sc, "k")
					outcome := redisidem.Advance("next")
					if stored == "finished" {
						outcome = redisidem.Finish(redisidem.JSON(201, "done"))
					}
					_, err := sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						return outcome, nil
					})
					mustBe(t, err, nil)
					var place [2]string
					place[record], place[lock] = e.place(key)
					mustBe(t, d.damage(raw, place), nil)
					before := contents(raw, place[record])

					refused := func(what string, err error) {
						t.Helper()
						if !errors.Is(err, redisidem.ErrDamaged) {
							t.Errorf("%s: error is %v", what, err)
						}
						if errors.Is(err, redisidem.ErrUnavailable) || errors.Is(err, redisidem.ErrNotFound) {
							t.Errorf("%s: error matches more than ErrDamaged: %v", what, err)
						}
					}
					began := time.Now()
					replays := d.unread && stored == "finished"
					if _, err = sc.Do(ctx, "k", request, never(t)); !replays {
						refused("Do", err)
					}
					// A call that read the record under a lease may still be abandoning it.
					lease, err := sc.Wait(5*time.Second).Lock(ctx, "k")
					if !replays {
						refused("Lock", err)
					}
					if lease != nil {
						t.Error("there is a lease")
					}
					_, err = sc.Retrieve(ctx, "k")
					refused("Retrieve", err)
					if _, err = sc.InitializeRequest(ctx, "k", request); !replays {
						refused("InitializeRequest", err)
					}
					if !d.late {
						got, err := sc.WorkStage(ctx, key, never(t)) // a view from before the damage
						refused("WorkStage", err)
						if got == nil {
							t.Error("WorkStage returns no key")
						}
					}
					if took := time.Since(began); took > 20*time.Second { // much less than a timeout
						t.Errorf("refused after %v, want at most %v", took, 20*time.Second)
					}

					mustBe(t, svc.Close(ctx), nil) // which waits for the background
					after := contents(raw, place[record])
					if d.late && (stored != "finished" || d.name == "empty recovery point") {
						delete(before, "control") // a lease changes it although it was abandoned
						delete(after, "control")
					}
					if !maps.Equal(before, after) {
						t.Errorf("the record was\n%q\nand is\n%q", before, after)
					}
					if n := raw.Exists(ctx, place[lock]).Val(); n != 0 {
						t.Error("a lock is left")
					}
				})
			})
		}
	}
}

// contents returns the contents of a Redis key of any type.
func contents(client redis.UniversalClient, key string) map[string]string {
	switch kind := client.Type(ctx, key).Val(); kind {
	case "hash":
		return client.HGetAll(ctx, key).Val()
	case "string":
		return map[string]string{kind: client.Get(ctx, key).Val()}
	default:
		return map[string]string{kind: fmt.Sprint(client.LRange(ctx, key, 0, -1).Val())}
	}
}

// TestRecordWhoseExpiryWasTakenIsKept covers PERSIST, and tools that restore records without their
// expiry.
func TestRecordWhoseExpiryWasTakenIsKept(t *testing.T) {
	onRealServers(t, func(t *testing.T, e *env) {
		raw := e.client()
		key, err := e.service().Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(t, err, nil)
		record, _ := e.place(key)
		for _, durable := range []bool{false, true} {
			mustBe(t, raw.Persist(ctx, record).Err(), nil)
			sc := e.service(func(c *redisidem.Config) {
				c.CacheBytes = 1 << 20
				if durable {
					c.CacheBytes, c.Durability, c.Timeout = 0, 1, 3*time.Second
				}
			}).Scope("a")
			for _, ask := range []func() (*redisidem.Key, error){
				func() (*redisidem.Key, error) { return sc.Do(ctx, "k", request, never(t)) },
				func() (*redisidem.Key, error) { return sc.InitializeRequest(ctx, "k", request) },
			} {
				key, err := ask()
				if !durable || strings.HasPrefix(e.name, "sentinel") {
					mustBe(t, err, nil)
				}
				if key == nil || key.Response == nil || string(key.Response.Body) != `"done"` || raw.Exists(ctx, record).Val() != 1 {
					t.Errorf("%+v, %v; the record exists: %v", key, err, raw.Exists(ctx, record).Val())
				}
			}
		}
		e.mustBeTidy(raw)
	})
}

func TestSeedM13RecordsExpire(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Retention: time.Hour}).Scope("a")
		key := start(b, sc, "k")
		time.Sleep(50 * time.Minute)
		_, err := sc.WorkStage(ctx, key, finish("done"))
		mustBe(b, err, nil)
		time.Sleep(59 * time.Minute) // counted from the last change
		mustHold(b, start(b, sc, "k"), `"done"`)
		time.Sleep(2 * time.Minute) // a replay is no change
		_, err = sc.Retrieve(ctx, "k")
		mustBe(b, err, redisidem.ErrNotFound)
		if keys := b.server.Keys(); len(keys) != 0 {
			b.Errorf("left: %v", keys)
		}
	})
}

func TestTrapS7NoWriteBringsAnExpiredKeyBack(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		for name, write := range map[string]func(key *redisidem.Key, lease *redisidem.Lease) error{
			"Update": func(key *redisidem.Key, _ *redisidem.Lease) error {
				_, err := sc.Update(ctx, key, redisidem.Advance("next"))
				if !errors.Is(err, redisidem.ErrNotFound) {
					t.Errorf("Update: %v", err)
				}
				return nil
			},
			"Unlock": func(key *redisidem.Key, _ *redisidem.Lease) error {
				if err := sc.Unlock(ctx, key.Value); !errors.Is(err, redisidem.ErrNotFound) {
					t.Errorf("Unlock: %v", err)
				}
				return nil
			},
			"Delete": func(key *redisidem.Key, _ *redisidem.Lease) error { return sc.Delete(ctx, key) },
			"Renew": func(_ *redisidem.Key, lease *redisidem.Lease) error {
				if err := lease.Renew(ctx); !errors.Is(err, redisidem.ErrLeaseLost) {
					t.Errorf("Renew: %v", err)
				}
				return nil
			},
			"CommitKeep": func(_ *redisidem.Key, lease *redisidem.Lease) error {
				if _, _, err := lease.CommitKeep(ctx, redisidem.Advance("next")); !errors.Is(err, redisidem.ErrOutcomeUnknown) {
					t.Errorf("CommitKeep: %v", err)
				}
				return nil
			},
			"Abandon": func(_ *redisidem.Key, lease *redisidem.Lease) error { return lease.Abandon(ctx) },
		} {
			lease := locked(t, sc, name)
			record, lock := e.place(lease.Key())
			for _, k := range []string{record, lock} {
				mustBe(t, raw.Del(ctx, k).Err(), nil)
			}
			mustBe(t, write(lease.Key(), lease), nil)
			if left := e.keys(raw); len(left) != 0 {
				t.Errorf("%s made %v", name, left)
			}
			_ = lease.Abandon(ctx)
		}
	})
}

func TestTrapS13BytesComeBackAsTheyWent(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for i, text := range []string{
			"12345678901234567890", "[]", "{}", "[[],{}]", "1e400", "-0", " { \"b\":1, \"a\" : 2 } ", "\x00\xff\xfe\r\n$5\r\n", "",
		} {
			value, req := fmt.Sprint(i), request
			req.Params = []byte(text)
			_, err := sc.Do(ctx, value, req, returns(redisidem.Advance("next").WithState([]byte(text))))
			mustBe(t, err, nil)
			_, err = sc.Do(ctx, value, req, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				var state []byte
				if err := st.State(&state); err != nil || string(state) != text {
					t.Errorf("the state %q came back as %q, %v", text, state, err)
				}
				return redisidem.Finish(redisidem.Response{Code: 200, Body: state}), nil
			})
			mustBe(t, err, nil)
			key, err := sc.InitializeRequest(ctx, value, req)
			mustBe(t, err, nil)
			if key.Response == nil || string(key.Response.Body) != text || !bytes.Equal(key.Params, []byte(text)) {
				t.Errorf("%q came back as the params %q and the response %+v", text, key.Params, key.Response)
			}
		}
	})
}

func TestTrapS17NothingIsWrittenToADamagedRecord(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		for field, word := range map[string]int{"version": controlVersion, "revision": controlRevision, "fence": controlFence} {
			key := start(t, sc, field)
			record, _ := e.place(key)
			mustBe(t, setControl(raw, record, word, "damaged"), nil)
			e.mustNotChange(raw, field, func() {
				for what, write := range map[string]func() error{
					"WorkStage": func() error { _, err := sc.WorkStage(ctx, key, never(t)); return err },
					"Do":        func() error { _, err := sc.Do(ctx, field, request, never(t)); return err },
					"Update":    func() error { _, err := sc.Update(ctx, key, redisidem.Advance("next")); return err },
				} {
					if err := write(); !errors.Is(err, redisidem.ErrDamaged) {
						t.Errorf("%s with a damaged %s: %v", what, field, err)
					}
				}
			})
		}
	})
}
