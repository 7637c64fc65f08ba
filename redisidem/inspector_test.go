package redisidem_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

func TestInspectorFindsKeysByTheirID(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		for state, key := range in.keys {
			info, err := in.Find(ctx, key.ID())
			mustBe(t, err, nil)
			if info.State != state || info.ID != key.ID() || state != redisidem.KeyUnreadable && info.Key.Value != "key" {
				t.Errorf("%s: found %+v", state, info)
			}
		}
	})
}

func TestInspectorRefusesWhatIsNotThere(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		svc := e.service()
		in := redisidem.NewInspector(svc)
		key := start(t, svc.Scope("a"), "k")
		other := redisidem.NewInspector(e.service(func(c *redisidem.Config) { c.Namespace = freshNamespace() }))
		_, err := other.Find(ctx, key.ID())
		mustBe(t, err, redisidem.ErrNotFound)
		_, err = other.Get(ctx, "a", "k")
		mustBe(t, err, redisidem.ErrNotFound)
		for _, id := range []string{"", "x", key.ID()[1:], key.ID() + "A", "*" + key.ID()[1:]} {
			_, err := in.Find(ctx, id)
			mustBeInvalid(t, err, "id", "32 characters")
		}
		_, err = in.Get(ctx, "", "k")
		mustBeInvalid(t, err, "scope")
		_, err = in.Get(ctx, "a", strings.Repeat("k", 256))
		mustBeInvalid(t, err, "key", "255")
		mustBe(t, svc.Scope("a").Delete(ctx, key), nil)
		_, err = in.Find(ctx, key.ID()) // a tombstone
		mustBe(t, err, redisidem.ErrNotFound)
	})
}

func TestInspectorSaysWhichRecordsExist(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		var records []string
		for _, key := range in.keys {
			records = append(records, key.Record())
		}
		exist, err := in.Exist(ctx, records...)
		mustBe(t, err, nil)
		if len(exist) != len(records) || slices.Contains(exist, false) {
			t.Errorf("of %d records %v exist", len(records), exist)
		}

		svc := e.service()
		plain := redisidem.NewInspector(svc)
		deleted, open := start(t, svc.Scope("a"), "deleted"), start(t, svc.Scope("a"), "open")
		mustBe(t, svc.Scope("a").Delete(ctx, deleted), nil)
		never := open.Record()[:len(open.Record())-1] + "-"
		exist, err = plain.Exist(ctx, deleted.Record(), open.Record(), never)
		mustBe(t, err, nil)
		if !slices.Equal(exist, []bool{false, true, false}) {
			t.Errorf("a deleted, an open and a missing record: %v", exist)
		}
		if exist, err = plain.Exist(ctx); err != nil || len(exist) != 0 {
			t.Errorf("none: %v, %v", exist, err)
		}
		for _, record := range []string{"", open.ID(), "x" + open.Record(), open.Record() + ":lock"} {
			_, err := plain.Exist(ctx, open.Record(), record)
			mustBeInvalid(t, err, "records[1]", "namespace")
		}
	})
}

// TestInspectorShowsWhatIsNotEncrypted reads an encrypted key without the secret.
func TestInspectorShowsWhatIsNotEncrypted(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		encrypted := e.service(func(c *redisidem.Config) { c.Codec = mustCodec(t, secret("k")) })
		key := secretStages(t, encrypted.Scope("a"), "k")
		for name, svc := range map[string]*redisidem.Service{
			"no codec": e.service(), "another secret": e.service(func(c *redisidem.Config) { c.Codec = mustCodec(t, secret("other")) }),
		} {
			in := redisidem.NewInspector(svc)
			info, err := in.Find(ctx, key.ID())
			mustBe(t, err, nil)
			mustBe(t, info.Err, redisidem.ErrDamaged)
			if info.State != redisidem.KeyFinished || info.Key != nil || info.Status != 201 || info.Value != "k" || len(info.Journal) != 4 {
				t.Errorf("%s: %+v", name, info)
			}
			if strings.Contains(info.Err.Error(), "4111") {
				t.Errorf("%s: the error has the value: %v", name, info.Err)
			}
		}
		info, err := redisidem.NewInspector(encrypted).Find(ctx, key.ID())
		mustBe(t, err, nil)
		if info.Err != nil || info.Key == nil || !strings.Contains(string(info.Key.Response.Body), "4111") {
			t.Errorf("with the codec: %+v", info)
		}
	})
}

// TestInspectorReadsWhatIsNotARecord puts values of other types in the place of a record and of an
// index.
func TestInspectorReadsWhatIsNotARecord(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		raw := e.client()
		record, _ := e.place(in.keys[redisidem.KeyIdle])
		mustBe(t, raw.Del(ctx, record).Err(), nil)
		mustBe(t, raw.Set(ctx, record, "a text", 0).Err(), nil)
		info := in.mustGet(t, "idle", redisidem.KeyUnreadable)
		mustBe(t, info.Err, redisidem.ErrDamaged)

		due, err := in.svc.Scope("due").Retrieve(ctx, "key")
		mustBe(t, err, nil)
		record, _ = e.place(due)
		index := record[:strings.LastIndex(record, ":")] + ":due:cart"
		mustBe(t, raw.Del(ctx, index).Err(), nil)
		mustBe(t, raw.Set(ctx, index, "a text", 0).Err(), nil)
		if info := in.mustGet(t, "due", redisidem.KeyInterrupted); !info.Due.IsZero() {
			t.Errorf("without a readable index the key is due at %v", info.Due)
		}
		_, err = in.Stats(ctx)
		mustBe(t, err, redisidem.ErrDamaged)
		mustBe(t, raw.Del(ctx, index).Err(), nil)
	})
}

// TestInspectorOfAReaderMayNotAct has a Redis user that may only read.
func TestInspectorOfAReaderMayNotAct(t *testing.T) {
	shared(t, &standalone)
	e := &env{t: t, namespace: freshNamespace(), client: func() redis.UniversalClient {
		client, err := standalone.client(3)
		mustBe(t, err, nil)
		t.Cleanup(func() { _ = client.Close() })
		return client
	}}
	in := e.inEveryState()
	user := "reader" + e.namespace
	for _, rule := range []string{
		"reset", "on", ">pw", "~" + e.namespace + ":*", "+hello", "+auth", "+exists", "+hmget", "+hgetall", "+pttl", "+zscore", "+zscan", "+time", "+scan",
		"+dbsize", "+randomkey", "+multi", "+exec", "+zcount", "+xrange",
	} {
		mustBe(t, e.client().Do(ctx, "ACL", "SETUSER", user, rule).Err(), nil)
	}
	o := options(standalone.server.Addr(), 3)
	o.Username, o.Password = user, "pw"
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	cfg := e.config()
	svc, err := redisidem.New(client, &cfg)
	mustBe(t, err, nil)
	t.Cleanup(func() { _ = svc.Close(ctx) })
	reader := redisidem.NewInspector(svc)
	for state, key := range in.keys {
		info, err := reader.Find(ctx, key.ID())
		mustBe(t, err, nil)
		if info.State != state {
			t.Errorf("%s is read as %s", state, info.State)
		}
		for name, err := range map[string]error{
			"unlock": reader.Unlock(ctx, info, act), "delete": reader.Delete(ctx, info, act),
		} {
			mustBe(t, err, redisidem.ErrNotPermitted)
			if strings.Contains(err.Error(), "pw") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, err := range reader.Purge(ctx, "idle", "", act) {
		mustBe(t, err, redisidem.ErrNotPermitted)
	}
	for _, err := range reader.List(ctx, redisidem.Filter{}, "") {
		mustBe(t, err, nil)
	}
	versions, err := reader.OpenVersions(ctx, "cart")
	mustBe(t, err, nil)
	if len(versions) == 0 {
		t.Error("no version has open keys")
	}
	_, err = reader.Stats(ctx)
	mustBe(t, err, nil)
	_, err = reader.OpenFlows(ctx)
	mustBe(t, err, nil)
	entries, err := reader.Audit(ctx, noTime, noTime)
	mustBe(t, err, nil)
	if len(entries) != 0 {
		t.Errorf("the audit has %+v", entries)
	}
	for state, key := range in.keys {
		if info, err := in.Find(ctx, key.ID()); err != nil || info.State != state {
			t.Errorf("%s became %+v, %v", state, info, err)
		}
	}
}

func TestInspectorWithoutAServer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		in := redisidem.NewInspector(svc)
		key := start(b, svc.Scope("a"), "k")
		info, err := in.Find(ctx, key.ID())
		mustBe(b, err, nil)
		b.freeze()
		_, err = in.Find(ctx, key.ID())
		mustBe(b, err, redisidem.ErrUnavailable)
		_, err = in.Get(ctx, "a", "k")
		mustBe(b, err, redisidem.ErrUnavailable)
		mustBe(b, in.Delete(ctx, info, act), redisidem.ErrUnavailable)
		_, err = in.Stats(ctx)
		mustBe(b, err, redisidem.ErrUnavailable)
		_, err = in.Audit(ctx, noTime, noTime)
		mustBe(b, err, redisidem.ErrUnavailable)
		pages := 0
		for page, err := range in.List(ctx, redisidem.Filter{}, "") {
			pages++
			mustBe(b, err, redisidem.ErrUnavailable)
			if len(page.Keys) > 0 {
				b.Errorf("the page is %+v", page)
			}
		}
		for _, err := range in.Purge(ctx, "a", "", act) {
			pages++
			mustBe(b, err, redisidem.ErrUnavailable)
		}
		if pages != 2 {
			b.Errorf("%d errors, want 2", pages)
		}
		b.thaw()
	})
}
