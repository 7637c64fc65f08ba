package console_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
	"github.com/redisidem/redisidem/redisidem/console"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	leak.Main(m)
}

// quiet keeps go-redis from writing about servers that are gone.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// secretBody is what pages must not show before it is asked for.
const secretBody = "<b>secret of a customer</b>"

// shop is an embedded server with a key in each state, in a scope of the state's name.
type shop struct {
	*testing.T
	server    *miniredis.Miniredis
	svc       *redisidem.Service
	inspector *redisidem.Inspector
	ids       map[string]string // by scope
}

var errProvider = errors.New("the provider is away")

var request = redisidem.Request{Method: "POST", Path: "/orders?<i>", Params: []byte(secretBody)}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{T: t, server: miniredis.RunT(t), ids: make(map[string]string)}
	s.svc = s.open(nil)
	s.inspector = redisidem.NewInspector(s.svc)
	ends := func(o redisidem.Outcome, err error) redisidem.StageFunc {
		return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, err }
	}
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: ends(redisidem.Next(), nil), Compensate: func(context.Context, *redisidem.Stage) error { return nil }},
			{Point: "paid", Work: ends(redisidem.Outcome{}, errProvider)},
		},
	})
	s.must(err)
	answer := redisidem.Response{Code: 201, Header: map[string][]string{"Content-Type": {"text/html"}, "Set-Cookie": {"secret of a cookie"}, "X-Api-Token": {"secret of a field"}}, Body: []byte(secretBody)}
	for _, state := range append(redisidem.KeyStates(), 0) {
		scope, value := state.String(), "order-1"
		if state == 0 {
			scope = "encrypted"
		}
		sc := s.svc.Scope(scope)
		s.ids[scope] = sc.ID(value)
		switch state {
		case redisidem.KeyDead:
			_, err = sc.DoFlow(t.Context(), value, request, flow)
			if errors.Is(err, errProvider) {
				err = nil
			}
			s.bury(flow)
		case redisidem.KeyFinished:
			_, err = sc.Do(t.Context(), value, request, ends(redisidem.Finish(answer), nil))
		case redisidem.KeyInterim:
			_, err = sc.Do(t.Context(), value, request, ends(redisidem.Interim("paid", answer), nil))
		case redisidem.KeyInterrupted:
			if _, err = sc.Do(t.Context(), value, request, ends(redisidem.Outcome{}, errProvider)); errors.Is(err, errProvider) {
				err = nil
			}
		case 0:
			encryption, encryptionErr := codec.NewEncryption(codec.EncryptionKey{ID: "k1", Secret: bytes.Repeat([]byte("s"), 32)})
			s.must(encryptionErr)
			_, err = s.open(encryption).Scope(scope).Do(t.Context(), value, request, ends(redisidem.Finish(answer), nil))
		default:
			_, err = sc.InitializeRequest(t.Context(), value, request)
		}
		s.must(err)
		if state == redisidem.KeyInFlight || state == redisidem.KeyAbandoned {
			lease, err := sc.Lock(t.Context(), value)
			s.must(err)
			t.Cleanup(func() { _ = lease.Abandon(context.Background()) })
		}
		for _, name := range s.server.Keys() {
			switch {
			case state == redisidem.KeyAbandoned && strings.HasSuffix(name, s.ids[scope]+":lock"):
				s.server.Del(name)
			case state == redisidem.KeyUnreadable && strings.HasSuffix(name, s.ids[scope]):
				s.server.HSet(name, "control", "9 of the next version")
			}
		}
	}
	return s
}

// bury lets a completer give up what is due.
func (s *shop) bury(flow *redisidem.Flow) {
	completer, err := redisidem.NewCompleter(s.svc, []*redisidem.Flow{flow}, nil)
	s.must(err)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		swept, err := completer.Sweep(s.Context())
		s.must(err)
		if swept.DeadLettered > 0 {
			return
		}
	}
	s.Fatal("no key became a dead letter")
}

func (s *shop) open(values redisidem.Codec) *redisidem.Service {
	svc, err := redisidem.OpenUnchecked("redis://"+s.server.Addr(), &redisidem.Config{
		Timeout: 20 * time.Second, Lease: time.Hour, Owner: "worker-1", Codec: values,
	})
	s.must(err)
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = svc.Close(ctx)
	})
	return svc
}

func (s *shop) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// state returns the state of the key of a scope.
func (s *shop) state(scope string) string {
	s.Helper()
	k, err := s.inspector.Find(s.Context(), s.ids[scope])
	if errors.Is(err, redisidem.ErrNotFound) {
		return "none"
	}
	s.must(err)
	return k.State.String()
}

// audit returns the acts in the audit with their outcomes, actors and reasons, oldest first.
func (s *shop) audit() (all []string) {
	s.Helper()
	entries, err := s.inspector.Audit(s.Context(), time.Time{}, time.Time{})
	s.must(err)
	for _, e := range entries {
		all = append(all, strings.Join([]string{e.Act, e.Outcome, e.Actor, e.Reason}, "/"))
	}
	return all
}

// site is a console of a shop, as one user has it.
type site struct {
	*shop
	console *console.Console
	handler http.Handler
	log     *bytes.Buffer
}

// as returns an Authorize that lets everyone in as one user.
func as(role console.Role) console.Authorize {
	return func(*http.Request) (console.User, bool) { return console.User{Name: "ann", Role: role}, true }
}

// site makes a console that may write, for an operator.
func (s *shop) site(change ...func(*console.Config)) *site {
	s.Helper()
	var log bytes.Buffer
	cfg := console.Config{Authorize: as(console.RoleOperator), Write: true, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for _, f := range change {
		f(&cfg)
	}
	c, err := console.New(s.inspector, cfg)
	s.must(err)
	return &site{s, c, c, &log}
}

func (s *site) serve(r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r.WithContext(s.Context()))
	return w.Result()
}

// get returns a page, which must have a status.
func (s *site) get(path string, want int) string {
	s.Helper()
	return s.text(s.serve(formlessRequest(path)), want)
}

func formlessRequest(path string) *http.Request {
	return httptest.NewRequest(http.MethodGet, path, http.NoBody)
}

// post sends a form and returns the page, which must have a status.
func (s *site) post(path string, form url.Values, want int) string {
	s.Helper()
	return s.text(s.serve(formRequest(path, form)), want)
}

func formRequest(path string, form url.Values) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func (s *site) text(response *http.Response, want int) string {
	s.Helper()
	body, err := io.ReadAll(response.Body)
	s.must(err)
	if response.StatusCode != want {
		s.Fatalf("the status is %d, want %d: %s", response.StatusCode, want, body)
	}
	return string(body)
}

// target returns the target of the key of a scope, as its page has it.
func (s *site) target(scope string) string {
	s.Helper()
	page := s.get("/keys/"+s.ids[scope], http.StatusOK)
	_, rest, ok := strings.Cut(page, `name="target" value="`)
	if !ok {
		s.Fatalf("the page of %s has no act: %s", scope, page)
	}
	text, _, _ := strings.Cut(rest, `"`)
	return strings.NewReplacer("&amp;", "&", "&#43;", "+").Replace(text)
}

// mustHave fails the test unless a page has all texts.
func mustHave(t testing.TB, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("the page has no %q:\n%s", text, page)
		}
	}
}

// mustLack fails the test if a page has one of some texts.
func mustLack(t testing.TB, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(page, text) {
			t.Errorf("the page has %q:\n%s", text, page)
		}
	}
}
