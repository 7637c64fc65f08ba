package console_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

// form returns a confirmed form about the key of a scope, with further names and values.
func (s *site) form(scope string, more ...string) url.Values {
	s.Helper()
	form := url.Values{"target": {s.target(scope)}, "confirmed": {"yes"}, "reason": {"ticket 4711"}}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return form
}

// TestActsAreConfirmedFirst sends each act as the page of a key does: what it will hit is shown,
// and nothing is done.
func TestActsAreConfirmedFirst(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for act, scope := range map[string]string{"unlock": "in-flight", "requeue": "dead", "cancel": "dead", "resolve": "interrupted", "delete": "unreadable", "read": "finished"} {
		page := s.post("/acts/"+act, url.Values{"target": {s.target(scope)}}, http.StatusOK)
		mustHave(t, page, "1 key?", s.ids[scope], `name="confirmed"`, `name="reason"`, `maxlength="512"`, `action="../acts/`+act+`"`)
		mustLack(t, page, secretBody, "secret of a customer")
		if got := s.state(scope); got != scope {
			t.Errorf("%s: the key of %s is %s", act, scope, got)
		}
	}
	if got := s.audit(); len(got) != 0 {
		t.Errorf("the audit has %q", got)
	}
}

func TestActsAreDoneAndInTheAudit(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for _, c := range []struct {
		act, scope, state string
		more              []string
	}{
		{"unlock", "in-flight", "interrupted", nil},
		{"requeue", "dead", "idle", nil},
		{"resolve", "interrupted", "finished", []string{"status", "201", "type", "text/plain", "body", "done\r\nby hand"}},
		{"resolve", "abandoned", "finished", []string{"status", "204"}},
		{"delete", "idle", "none", nil},
		{"delete", "unreadable", "none", nil},
		{"delete", "encrypted", "none", nil},
	} {
		before := len(s.audit())
		response := s.serve(formRequest("/acts/"+c.act, s.form(c.scope, c.more...)))
		if c.act == "delete" {
			mustHave(t, s.text(response, http.StatusOK), "1 key deleted", s.ids[c.scope])
		} else if got := response.Header.Get("Location"); response.StatusCode != http.StatusSeeOther || got != "../keys/"+s.ids[c.scope]+"?done="+c.act {
			t.Fatalf("%s: %d to %q: %s", c.act, response.StatusCode, got, s.text(response, response.StatusCode))
		}
		if got := s.state(c.scope); got != c.state {
			t.Errorf("after %s the key of %s is %s, want %s", c.act, c.scope, got, c.state)
		}
		if got := s.audit(); len(got) != before+1 || got[before] != c.act+"/done/ann/ticket 4711" {
			t.Errorf("after %s the audit is %q", c.act, got)
		}
	}
	key, err := s.svc.Scope("interrupted").Retrieve(t.Context(), "order-1")
	s.must(err)
	if r := key.Response; r.Code != 201 || string(r.Body) != "done\nby hand" || r.Header["Content-Type"][0] != "text/plain" {
		t.Errorf("the answer is %+v", r)
	}
	mustHave(t, s.get("/keys/"+s.ids["interrupted"]+"?done=resolve", 200), "The key was resolved.", "by hand")
}

// TestCancelStopsTheFlowOfAKey cancels a dead letter and a key in flight. Keys of no flow, and keys
// whose flow cannot be undone any more, are left as they are.
func TestCancelStopsTheFlowOfAKey(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	mustHave(t, s.post("/acts/cancel", url.Values{"target": {s.target("dead")}}, 200), "Cancel 1 key?", "Back</a>", `class="danger"`)
	s.post("/acts/cancel", s.form("dead"), http.StatusSeeOther)
	page := s.get("/keys/"+s.ids["dead"]+"?done=cancel", 200)
	mustHave(t, page, "The key was canceled.", "<dt>Canceled</dt>", `<span class="what">canceled</span>`)
	mustLack(t, page, "acts/cancel")
	if got := s.audit(); s.state("dead") != "idle" || !slices.Equal(got, []string{"cancel/done/ann/ticket 4711"}) {
		t.Errorf("the key is %s, the audit %q", s.state("dead"), got)
	}

	working, work := make(chan struct{}), make(chan struct{})
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "refund", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, NoReturn: true, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Next(), nil
		}},
		{Point: "approved", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			close(working)
			<-work
			return redisidem.Outcome{}, errProvider
		}},
	}})
	s.must(err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = s.svc.Scope("late").DoFlow(t.Context(), "order-1", request, flow)
	}()
	<-working
	s.ids["late"] = s.svc.Scope("late").ID("order-1")
	mustHave(t, s.get("/keys/"+s.ids["late"], 200), "acts/cancel")
	mustHave(t, s.post("/acts/cancel", s.form("late"), http.StatusConflict), "It is too late to cancel")
	close(work)
	<-ended

	mustLack(t, s.get("/keys/"+s.ids["idle"], 200), "acts/cancel")
	mustHave(t, s.post("/acts/cancel", s.form("idle"), http.StatusBadRequest), "belongs to no flow")
	mustHave(t, s.get("/keys", 200), "Cancel chosen…")
}

// TestValuesAreHiddenUntilTheyAreAudited looks for the body of an answer.
func TestValuesAreHiddenUntilTheyAreAudited(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	hidden := []string{"secret of a customer", "secret of a cookie", "secret of a field"}
	for _, path := range []string{"/", "/keys", "/keys/" + s.ids["finished"], "/dead", "/flows?count=1", "/audit"} {
		mustLack(t, s.get(path, 200), hidden...)
	}
	mustHave(t, s.get("/keys/"+s.ids["finished"], 200), "27 bytes", "hidden, 18 bytes", "X-Api-Token", "hidden, 17 bytes", "text/html")
	page := s.post("/acts/read", s.form("finished"), 200)
	mustHave(t, page, "&lt;b&gt;secret of a customer&lt;/b&gt;", "secret of a cookie", "The audit says that you have read them.")
	mustLack(t, page, secretBody)
	if got := s.audit(); !slices.Equal(got, []string{"read/done/ann/ticket 4711"}) {
		t.Errorf("the audit is %q", got)
	}
	mustHave(t, s.post("/acts/read", s.form("finished", "reason", " "), 400), "Act.Reason")
	if got := s.audit(); len(got) != 1 {
		t.Errorf("the audit is %q", got)
	}
}

func TestOnlyOperatorsMayAct(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	form := shop.site().form("dead")
	for name, c := range map[string]struct {
		change func(*console.Config)
		want   string
	}{
		"viewer":        {func(c *console.Config) { c.Authorize = as(console.RoleViewer) }, "Only operators"},
		"without write": {func(c *console.Config) { c.Write = false }, "read-only"},
		"no name": {func(c *console.Config) {
			c.Authorize = func(*http.Request) (console.User, bool) { return console.User{Role: console.RoleOperator}, true }
		}, "Only operators"},
	} {
		s := shop.site(c.change)
		for _, act := range []string{"unlock", "requeue", "cancel", "resolve", "delete", "read", "none"} {
			mustHave(t, s.post("/acts/"+act, form, http.StatusForbidden), c.want)
		}
		for _, path := range []string{"/keys/" + s.ids["dead"], "/keys", "/dead"} {
			mustLack(t, s.get(path, 200), "acts/", `type="checkbox" name="target"`, `method="post" action`)
		}
		if s.state("dead") != "dead" || len(s.audit()) != 0 {
			t.Errorf("%s: the key is %s, the audit %q", name, s.state("dead"), s.audit())
		}
	}
}

func TestActsRefuseBadInput(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for _, c := range []struct {
		act, scope string
		more       []string
		status     int
		want       string
	}{
		{"delete", "idle", []string{"reason", ""}, 400, "Act.Reason must not be empty"},
		{"delete", "idle", []string{"reason", strings.Repeat("r", 513)}, 400, "more than 512"},
		{"resolve", "idle", []string{"status", "x"}, 400, "Status must be a number from 200 to 599, or 0 for none"},
		{"resolve", "idle", []string{"status", "99"}, 400, "Status must be a number from 200 to 599, or 0 for none"},
		{"resolve", "idle", []string{"status", "103"}, 400, "Status must be a number from 200 to 599, or 0 for none"},
		{"resolve", "idle", []string{"status", "600"}, 400, "Status must be a number from 200 to 599, or 0 for none"},
		{"resolve", "dead", []string{"status", "200"}, 400, "something to undo"},
		{"delete", "idle", []string{"target", "x"}, 400, "target is not one of this console"},
		{"delete", "idle", []string{"target", "id=%zz"}, 400, "target is not one of this console"},
		{"delete", "idle", []string{"target", "id=x&seen=1"}, 400, "32 characters"},
		{"none", "idle", nil, 404, "no page"},
		{"delete", "idle", []string{"body", strings.Repeat("b", 2<<20)}, 400, "larger than"},
	} {
		page := s.post("/acts/"+c.act, s.form(c.scope, c.more...), c.status)
		mustHave(t, page, c.want)
		if got := s.state(c.scope); got != c.scope || len(s.audit()) != 0 {
			t.Errorf("%s %.60q: the key is %s, the audit %q", c.act, c.more, got, s.audit())
		}
	}
	mustHave(t, s.post("/acts/resolve", s.form("idle", "status", "x", "body", "keep <this>"), 400), "keep &lt;this&gt;", "ticket 4711")
	mustHave(t, s.post("/acts/delete", url.Values{"confirmed": {"yes"}, "reason": {"r"}}, 400), "choose at least one key")
	mustHave(t, s.post("/acts/delete", url.Values{"target": make([]string, 501)}, 400), "501 times, more than 500")
	mustHave(t, s.post("/acts/resolve", url.Values{"target": {s.target("idle"), s.target("dead")}}, 400), "must be there once")
	// The decision that was missing.
	form := s.form("dead", "status", "200", "leave", "1")
	if got := s.serve(formRequest("/acts/resolve", form)); got.StatusCode != http.StatusSeeOther || s.state("dead") != "finished" {
		t.Errorf("with leave: %d, %s", got.StatusCode, s.state("dead"))
	}
}

// TestActsApplyToTheKeyAsItWasShown lets another worker claim the key meanwhile.
func TestActsApplyToTheKeyAsItWasShown(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	form := s.form("idle")
	lease, err := s.svc.Scope("idle").Lock(t.Context(), "order-1")
	s.must(err)
	for _, act := range []string{"unlock", "delete"} {
		mustHave(t, s.post("/acts/"+act, form, http.StatusConflict), "has changed since it was shown", "Not all keys were")
	}
	form.Del("confirmed")
	mustHave(t, s.post("/acts/unlock", form, 200), "Unlock 0 keys?", "has changed since it was shown", "nothing to act on")
	if got := s.state("idle"); got != "in-flight" {
		t.Errorf("the key is %s", got)
	}
	mustHave(t, s.post("/acts/delete", s.form("idle"), http.StatusConflict), "A worker has the lease")
	s.must(lease.Abandon(t.Context()))
	gone := s.form("finished")
	s.server.FlushAll()
	mustHave(t, s.post("/acts/delete", gone, http.StatusConflict), "There is no such key")
}

func TestActsOnSeveralKeys(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	targets := []string{s.target("idle"), s.target("in-flight"), s.target("finished")}
	page := s.post("/acts/delete", url.Values{"target": targets}, 200)
	mustHave(t, page, "Delete 3 keys?", s.ids["idle"], s.ids["in-flight"], s.ids["finished"])
	page = s.post("/acts/delete", url.Values{"target": targets, "confirmed": {"yes"}, "reason": {"r"}}, http.StatusConflict)
	mustHave(t, page, "2 keys deleted", "A worker has the lease", "Not all keys were deleted")
	if got := s.state("idle") + s.state("in-flight") + s.state("finished"); got != "nonein-flightnone" {
		t.Errorf("the keys are %s", got)
	}
	if got := s.audit(); len(got) != 3 {
		t.Errorf("the audit is %q", got)
	}
}

// TestActsOnAllThatMatch takes the keys from the filter, and hits those that the page of the
// confirmation has shown.
func TestActsOnAllThatMatch(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for i := range 510 {
		_, err := s.svc.Scope("many").InitializeRequest(t.Context(), strings.Repeat("k", i/10+1)+string(rune('0'+i%10)), request)
		s.must(err)
	}
	page := s.post("/acts/delete", url.Values{"all": {"1"}, "scope": {"many"}, "state": {"idle"}}, 200)
	mustHave(t, page, "Delete 500 keys?", "These are the first that match")
	form := url.Values{"confirmed": {"yes"}, "reason": {"contract ended"}}
	for rest := page; ; {
		_, after, ok := strings.Cut(rest, `name="target" value="`)
		if !ok {
			break
		}
		text, next, _ := strings.Cut(after, `"`)
		form.Add("target", strings.NewReplacer("&amp;", "&", "&#43;", "+").Replace(text))
		rest = next
	}
	mustHave(t, s.post("/acts/delete", form, 200), "500 keys deleted", "All keys were deleted")
	page = s.post("/acts/delete", url.Values{"all": {"1"}, "scope": {"many"}}, 200)
	mustHave(t, page, "Delete 10 keys?")
	mustLack(t, page, "These are the first")
	mustHave(t, s.post("/acts/delete", url.Values{"all": {"1"}, "older": {"x"}}, 400), "Older than must be a duration")
	if got := s.state("idle"); got != "idle" {
		t.Errorf("a key that does not match is %s", got)
	}
}

// TestActsOnAllThatMatchAreShownFirst confirms keys that no page has shown, and sends a filter to
// the acts that are on one key only.
func TestActsOnAllThatMatchAreShownFirst(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for _, act := range []string{"delete", "unlock", "cancel", "requeue"} {
		form := url.Values{"all": {"1"}, "confirmed": {"yes"}, "reason": {"r"}}
		mustHave(t, s.post("/acts/"+act, form, 200), "keys?", s.ids["idle"], `name="confirmed"`)
	}
	for _, act := range []string{"resolve", "read"} {
		for _, form := range []url.Values{{"all": {"1"}, "state": {"idle"}}, s.form("idle", "all", "1", "state", "idle", "status", "200")} {
			mustHave(t, s.post("/acts/"+act, form, 400), "all must not be there: this act is on one key")
		}
	}
	if got := s.state("idle"); got != "idle" || len(s.audit()) != 0 {
		t.Errorf("the key is %s, the audit %q", got, s.audit())
	}
}

// TestRedisThatGoesAwayDuringAnAct refuses all commands after the first key is deleted.
func TestRedisThatGoesAwayDuringAnAct(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	form := url.Values{"confirmed": {"yes"}, "reason": {"r"}}
	for _, scope := range []string{"idle", "finished", "dead"} {
		form.Add("target", shop.site().target(scope))
	}
	svc, err := redisidem.OpenUnchecked("redis://"+shop.server.Addr(), &redisidem.Config{Timeout: 2 * time.Second})
	shop.must(err)
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	shop.inspector = redisidem.NewInspector(svc)
	var deleted atomic.Bool
	shop.server.Server().SetPreHook(func(peer *server.Peer, command string, _ ...string) bool {
		script := strings.HasPrefix(command, "EVAL")
		if deleted.Load() && command != "HELLO" {
			peer.WriteError("LOADING Redis is loading the dataset in memory")
			return true
		}
		deleted.Store(deleted.Load() || script)
		return false
	})
	s := shop.site()
	page := s.post("/acts/delete", form, http.StatusConflict)
	mustHave(t, page, "Redis gave no answer in time", "Not done, because Redis did not answer before.")
	shop.server.Server().SetPreHook(nil)
	s.inspector = redisidem.NewInspector(shop.svc)
	if got := s.state("finished") + s.state("dead"); got != "finisheddead" {
		t.Errorf("the other keys are %s", got)
	}
}
