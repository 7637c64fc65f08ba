package redisidem

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem/effect"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// FuzzRequest checks that two requests have the same fingerprint exactly when their relevant parts
// are the same.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/a", []byte("b"), "post", "/a", []byte("b"))
	f.Add("POST", "/a", []byte("b"), "POST", "/ab", []byte{})
	f.Add("r", "", []byte("f"), "", "r", []byte("f"))
	f.Add("\xff", "ı", []byte(nil), "\xfe", "I", []byte{})
	f.Fuzz(func(t *testing.T, m1, p1 string, b1 []byte, m2, p2 string, b2 []byte) {
		one, err1 := Request{Method: m1, Path: p1, Params: b1}.encode(1<<20, nil)
		two, err2 := Request{Method: m2, Path: p2, Params: b2}.encode(1<<20, nil)
		if err := errors.Join(err1, err2); err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		upper1, upper2 := strings.ToUpper(m1), strings.ToUpper(m2)
		same := upper1 == upper2 && p1 == p2 && bytes.Equal(b1, b2)
		if same != (one.digest == two.digest) {
			t.Fatalf("same: %v, same fingerprint: %v", same, one.digest == two.digest)
		}
		// A fingerprint of the caller never equals that of a whole request.
		if own, err := (Request{Method: m1, Path: p1, Params: b1, Fingerprint: b2}).encode(1<<20, nil); err == nil && b2 != nil &&
			(own.digest == one.digest || own.digest == two.digest) {
			t.Fatal("a fingerprint of the caller's own is that of a request")
		}
	})
}

// FuzzIdentity checks that two keys never share a place, that none of their bytes reach the key
// space of Redis, and that a place is found again by its name.
func FuzzIdentity(f *testing.F) {
	f.Add("a", "bc", "ab", "c")
	f.Add("}{", "\x00\r\n*", "", "")
	f.Add("\xff", "a", "\xfe", "a")
	f.Fuzz(func(t *testing.T, scope1, value1, scope2, value2 string) {
		one, two := placeOf("ns", scope1, value1), placeOf("ns", scope2, value2)
		if same := scope1 == scope2 && value1 == value2; same != (one.Record == two.Record) || same != (one.Name == two.Name) {
			t.Fatalf("the places are %q and %q", one.Record, two.Record)
		}
		prefix := strings.TrimSuffix(one.Record, one.Digest)
		if len(prefix) != len("ns:{000}:") || strings.Trim(one.Digest, "0123456789-_"+letters) != "" {
			t.Fatalf("the place is %q", one.Record)
		}
		again, ok := protocol.IdentityIn(prefix, one.Digest)
		if !ok || again.Record != one.Record || again.Lock != one.Lock || again.Name != one.Name {
			t.Fatalf("found again at %+v", again)
		}
		whole, err := adopt(again, []string{fieldRequest, protocol.FormatRequest(scope1, value1, "POST", "/")}, "ns")
		if err != nil || whole != one {
			t.Fatalf("completed to %+v, %v", whole, err)
		}
		if other, err := adopt(again, []string{fieldRequest, protocol.FormatRequest(scope2, value2, "POST", "/")}, "ns"); err == nil && other != one {
			t.Fatalf("another key's record was taken for %+v", other)
		}
		_, _ = protocol.IdentityIn(prefix, value2) // a due index may hold anything
	})
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// valueLimit bounds the values of these tests.
const valueLimit = 1 << 20

// checked is a codec that binds a value to its associated data by a digest.
type checked struct{}

func (checked) Encode(plain, associated []byte) ([]byte, error) {
	sum := sha256.Sum256(append(bytes.Clone(associated), plain...))
	return append(sum[:], plain...), nil
}

func (checked) Decode(stored, associated []byte, limit int) ([]byte, error) {
	if len(stored) < sha256.Size || len(stored)-sha256.Size > limit {
		return nil, errors.New("bad length")
	}
	plain := stored[sha256.Size:]
	if sum := sha256.Sum256(append(bytes.Clone(associated), plain...)); !bytes.Equal(sum[:], stored[:sha256.Size]) {
		return nil, errors.New("bad digest")
	}
	return plain, nil
}

// lenient also accepts plain values.
type lenient struct{ checked }

func (lenient) AcceptsPlain() bool { return true }

func valueCodecs() map[string]valueCodec {
	return map[string]valueCodec{
		"plain": {limit: valueLimit}, "checked": {codec: checked{}, limit: valueLimit}, "optional": {codec: lenient{}, limit: valueLimit},
	}
}

// FuzzValueCodec checks that each value comes back as it was stored, and that any other value is
// damage.
func FuzzValueCodec(f *testing.F) {
	all := valueCodecs()
	for _, s := range []string{"", "a", markStem, encodedMark, plainMark + plainMark, encodedMark + "d\xff\xff\xff\xff\x0f", encodedMark[:5]} {
		f.Add([]byte(s), "/a", 200)
	}
	f.Fuzz(func(t *testing.T, value []byte, fingerprint string, code int) {
		id := placeOf("ns", "a", "k")
		for name, v := range all {
			stored, err := v.encode(id, fingerprint, fieldBody, code, value)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := v.decode(id, fingerprint, fieldBody, code, stored); err != nil || !bytes.Equal(got, value) {
				t.Fatalf("%s: %q came back as %q, %v", name, value, got, err)
			}
			if got, err := v.decode(id, fingerprint, fieldBody, code, value); err != nil && (got != nil || !errors.Is(err, ErrDamaged)) {
				t.Fatalf("%s: %q was read as %q, %v", name, value, got, err)
			}
			if v.codec == nil {
				continue
			}
			if got, err := (valueCodec{limit: valueLimit}).decode(id, fingerprint, fieldBody, code, stored); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s: without its codec it was read as %q, %v", name, got, err)
			}
			if got, err := v.decode(id, fingerprint, fieldState, code, stored); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s: in another field it was read as %q, %v", name, got, err)
			}
		}
	})
}

// FuzzStoredRecord checks that a request and an outcome come back unchanged with each codec.
func FuzzStoredRecord(f *testing.F) {
	all := valueCodecs()
	f.Add("k", "POST", "/a", []byte("params"), "two", 201, "X", "v", []byte("body"), []byte("state"), true)
	f.Add("\x00", "", "", []byte(nil), Finished, 0, "", "", []byte(nil), []byte(nil), false)
	f.Add(" ", "a", "b", []byte(markStem), "compensate:1", 100, "x", ": ", []byte(encodedMark), []byte(plainMark), false)
	f.Fuzz(func(t *testing.T, value, method, path string, params []byte, point string, code int, name, field string, body, state []byte,
		interim bool,
	) {
		id := placeOf("ns", "a", value)
		for way, v := range all {
			request, err := Request{Method: method, Path: path, Params: params}.encode(1<<20, nil)
			if err == nil {
				err = request.keep(v, id)
			}
			if err != nil {
				return
			}
			key := newKey(id, request, protocol.Created{At: time.UnixMicro(1700000000000000)})
			response := Response{Code: code, Body: body}
			if name != "" {
				response.Header = map[string][]string{name: {field}}
			}
			out, err := (Outcome{RecoveryPoint: point, Response: &response, Interim: interim}).WithState(state).encode(id, &Key{RecoveryPoint: Started}, 1<<20)
			if err == nil {
				err = out.keep(v, id, key)
			}
			if err != nil {
				return
			}
			fields := out.fields(key)
			words := append([]any{
				fieldControl, "2 1 - 7 1 1 0 - 1700000000000000 -", fieldFingerprint, key.fingerprint,
				fieldRequest, protocol.FormatRequest(id.Scope, id.Value, request.method, request.path),
			}, fields.Fields()...)
			if len(request.stored) > 0 {
				words = append(words, fieldParams, request.stored)
			}
			var pairs []string
			for _, word := range words {
				if b, ok := word.([]byte); ok {
					word = string(b)
				}
				pairs = append(pairs, fmt.Sprint(word))
			}
			got, err := decodeRecord(id, v, pairs)
			if err != nil {
				t.Fatalf("%s: %q: %v", way, pairs, err)
			}
			want := out.apply(key, JournalEntry{}, protocol.JournalShort)
			switch {
			case got.RecoveryPoint != want.RecoveryPoint || got.Value != value || got.Method != request.method || got.Path != path:
				t.Fatalf("%s: %+v came back as %+v", way, want, got)
			case !bytes.Equal(got.Params, params) || !bytes.Equal(got.state, state) || !got.hasState || got.hasInterim != interim:
				t.Fatalf("%s: %+v came back as %+v", way, want, got)
			case (got.Response == nil) != (want.Response == nil):
				t.Fatalf("%s: the response %+v came back as %+v", way, want.Response, got.Response)
			case got.Response == nil:
			case got.Response.Code != code || !bytes.Equal(got.Response.Body, body) ||
				!reflect.DeepEqual(got.Response.Header, want.Response.Header):
				t.Fatalf("%s: the response %+v came back as %+v", way, want.Response, got.Response)
			}
		}
	})
}

// FuzzReply checks that any reply to a claim results in a lease or an error.
func FuzzReply(f *testing.F) {
	f.Add("OWN nonce 7 1 1", "")
	f.Add("OWN nonce 7 1 1", "7\ncontrol")
	f.Add("OWN nonce 7 1 1 1700000000000000 2", "")
	f.Add("BUSY nonce -1", "")
	f.Add("BUSY nonce 200000000000000", "") // more milliseconds than a duration can be
	f.Add("DONE nonce ", "7\ncontrol1")
	f.Add("MOVED nonce", "7\ncontrol")
	f.Add("INTERIM nonce 20", "99\ncontrol")
	f.Add("EFFECT nonce 0", "\nwhy")
	f.Add("OK", "")
	f.Fuzz(func(t *testing.T, word, rest string) {
		r, err := protocol.ParseReply(lua.Claim, "nonce", word+"\n"+rest)
		if err != nil {
			return
		}
		if err := locked(r); err == nil {
			t.Fatal("no error")
		} else if locked := (*LockedError)(nil); errors.As(err, &locked) && locked.RetryAfter < 0 {
			t.Fatalf("locked for %v", locked.RetryAfter)
		}
		if _, err := decodeDeadLetter(rest); err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		if refused, revision, _ := refusalsIn(r.Texts); refused.looks < 0 || refused.revision < 0 || revision < 0 {
			t.Fatalf("refused %+v at %d", refused, revision)
		}
		if q, err := decodeRequeue(rest); err == nil && (q.revision < 0 || q.attempts < 0) {
			t.Fatalf("requeued at %+v", q)
		}
		if c, err := decodeControl(rest); err == nil && (c.revision < 0 || c.fence < 0 || c.attempts < 0) {
			t.Fatalf("control is %+v", c)
		}
		if e, err := decodeJournalEntry(word, rest); err == nil && (e.Revision < 0 || e.Fence < 0 || e.Attempt < 0) {
			t.Fatalf("journal entry is %+v", e)
		}
		if err := effectError([]effect.Effect{effect.Set("k", "")}, r); err == nil {
			t.Fatal("no error")
		}
	})
}

// FuzzURL checks that a URL gives a client or ErrInvalid, that no error contains the password of
// the URL, and that New accepts every such client.
func FuzzURL(f *testing.F) {
	for _, s := range [][2]string{
		{"redis", "localhost:6379/0"},
		{"rediss", "h?skip_verify=true"},
		{"redis+cluster", "a:1?addr=b:2"},
		{"redis+cluster", "a/x"},
		{"redis+sentinel", "a:1?master_name=m&addr=b:2&db=1"},
		{"redis+sentinel", "a"},
		{"redis+", "a"},
		{"http", "a"},
		{"redis", "a/x/y"},
		{"redis", "a?read_timeout=x"},
		{"redis", "a?pool_size=-1"},
		{"redis", "[::1"},
		{"redis", "%zz"},
		{"redis", "a?dial_timeout=-1"},
	} {
		f.Add(s[0], s[1])
	}
	const password = "do-not-disclose"
	f.Fuzz(func(t *testing.T, scheme, rest string) {
		if strings.Contains(rest, "idle") {
			return // min_idle_conns would dial
		}
		s, err := OpenUnchecked(scheme+"://user:"+url.PathEscape(password)+"@"+rest, &Config{Timeout: time.Second})
		if err == nil {
			if err := s.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			return
		}
		if !errors.Is(err, ErrInvalid) {
			t.Fatalf("error is %v", err)
		}
		if strings.Contains(err.Error(), password) {
			t.Fatalf("the password is in the error %v", err)
		}
	})
}

// FuzzHeader checks that every header that is accepted comes back byte for byte.
func FuzzHeader(f *testing.F) {
	f.Add("Content-Type", "application/json", "X", "caf\xe9")
	f.Add("X", ": ", "X", "")
	f.Add("a\r\n", "b\r\nX: c", "", "\x00")
	f.Add("a: b", "c", " ", "\n")
	f.Fuzz(func(t *testing.T, name, value, name2, value2 string) {
		r := Response{Header: map[string][]string{name: {value}}}
		r.Header[name2] = append(r.Header[name2], value2)
		if r.validate(1<<20) != nil {
			_, _ = decodeHeader(name + value + name2 + value2) // must not panic
			return
		}
		got, err := decodeHeader(string(encodeHeader(r.Header)))
		if err != nil || !reflect.DeepEqual(got, r.Header) {
			t.Errorf("%q came back as %q, %v", r.Header, got, err)
		}
	})
}

// FuzzDecodeRecord checks that any record in Redis decodes to a key or to ErrDamaged, without a
// panic.
func FuzzDecodeRecord(f *testing.F) {
	id := placeOf("ns", "a", "k")
	good := []string{
		fieldControl, "2 2 t 7 1 3 10000 - 1700000000000000 host/1", fieldRequest, "1 1 4 a k POST /", fieldFingerprint, "1:x",
		fieldPoint, Finished,
		fieldCode, "201", fieldHeaders, "X: a\r\n", fieldBody, "body",
		journalPrefix + "0", "1700000000000000 t 7 1 host/1 started", fieldInterim, "",
		fieldFlow, "f/1", fieldDeadLetter, "1700000000000000 0 1 why", fieldRequeued, "0 1 1700000000000000",
		fieldState, "null", fieldParams, "{}",
	}
	if k, err := decodeRecord(id, valueCodec{limit: valueLimit}, good); err != nil || k.Revision != 2 || k.Response.Code != 201 || len(k.Journal) != 1 {
		f.Fatalf("the good record decodes to %+v, %v", k, err)
	}
	for i := 0; i < len(good); i += 2 {
		for _, v := range []string{"", "x", "-1", "99999999999999999999", "9223372036854775807", "t 1 1 1", "1 0 1 why", "\xff\x00", "3 2 t 7 1 3 10000 - 1 o", "1 1 4 a x POST /", "1 99 4 a k POST /"} {
			f.Add(good[i], v, true)
		}
		f.Add(good[i], "", false)
	}
	f.Add(journalPrefix, "1 t 1 1 o s", true)
	f.Add("unknown", "field", true)
	f.Fuzz(func(t *testing.T, field, value string, pair bool) {
		for i := range 2 {
			pairs := append(slices.Clone(good), field)
			if i == 1 {
				pairs = []string{field}
			}
			if pair {
				pairs = append(pairs, value)
			}
			k, err := decodeRecord(id, valueCodec{limit: valueLimit}, pairs)
			if (k == nil) == (err == nil) {
				t.Fatalf("%q, %q: key %v, error %v", field, value, k, err)
			}
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("%q, %q: %v", field, value, err)
			}
			if k != nil && (k.Value != "k" || k.Scope != "a") {
				t.Errorf("%q, %q: the key is %q of %q", field, value, k.Value, k.Scope)
			}
		}
	})
}

func placeOf(namespace, scope, value string) identity {
	return protocol.Identify(namespace, scope, value, protocol.DigestOf(scope, value))
}
