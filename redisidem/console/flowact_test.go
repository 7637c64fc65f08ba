package console_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

// paused returns what is paused, with its actor and reason, and whether clients are.
func (s *shop) paused() (all []string) {
	s.Helper()
	pauses, err := s.inspector.Pauses(s.Context())
	s.must(err)
	for _, p := range pauses {
		text := p.Flow + "/" + p.Actor + "/" + p.Reason
		if p.Clients {
			text += "/clients"
		}
		all = append(all, text)
	}
	return all
}

func TestFlowsArePausedAndResumed(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	mustHave(t, s.get("/flows", 200), `href="./flows/pause?flow=order"`, `href="./flows/pause"`)
	mustHave(t, s.get("/flows/pause", 200), `name="flow"`, "Next")
	page := s.get("/flows/pause?flow=order", 200)
	mustHave(t, page, "Pause order?", "<dt>Dead letters</dt><dd>1</dd>", `name="reason"`, `name="clients"`, `maxlength="512"`)
	page = s.get("/flows/pause?flow=refund/2", 200)
	mustHave(t, page, "Pause refund/2?", "<dd>0</dd>")
	if got := s.paused(); len(got)+len(s.audit()) != 0 {
		t.Fatalf("before the confirmation %q is paused, the audit is %q", got, s.audit())
	}

	form := url.Values{"flow": {"order"}, "reason": {"provider is down"}}
	if got := s.serve(formRequest("/flows/pause", form)); got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != "../flows?done=pause" {
		t.Fatalf("%d to %q", got.StatusCode, got.Header.Get("Location"))
	}
	s.post("/flows/pause", url.Values{"flow": {"refund/2"}, "reason": {"defect"}, "clients": {"1"}}, http.StatusSeeOther)
	if got := s.paused(); !slices.Equal(got, []string{"order/ann/provider is down", "refund/2/ann/defect/clients"}) {
		t.Errorf("%q is paused", got)
	}
	page = s.get("/flows?done=pause", 200)
	mustHave(t, page, "The flow was paused.", `href="./flows/resume?flow=refund%2f2"`, "provider is down")
	mustHave(t, s.get("/flows/pause?flow=order", 200), "It is paused already", "provider is down")
	mustHave(t, s.get("/flows/resume?flow=refund/2", 200), "Resume refund/2?", "completers and clients", "defect")
	mustHave(t, s.get("/flows/pause?flow=refund/2", 200), `value="1" checked`) // or a new reason would let the clients in
	mustLack(t, s.get("/flows/resume?flow=order", 200), `name="clients"`)

	s.post("/flows/resume", url.Values{"flow": {"order"}, "reason": {"it is back"}}, http.StatusSeeOther)
	mustHave(t, s.get("/flows?done=resume", 200), "The flow was resumed.")
	mustHave(t, s.post("/flows/resume", url.Values{"flow": {"order"}, "reason": {"again"}}, http.StatusConflict), "is not paused")
	mustHave(t, s.get("/flows/resume?flow=order", http.StatusConflict), "is not paused")
	if got := s.audit(); !slices.Equal(got, []string{
		"pause/done/ann/provider is down", "pause with clients/done/ann/defect", "resume/done/ann/it is back", "resume/not found/ann/again",
	}) {
		t.Errorf("the audit is %q", got)
	}
	if got := s.paused(); !slices.Equal(got, []string{"refund/2/ann/defect/clients"}) {
		t.Errorf("%q is paused", got)
	}
}

func TestActsOnFlowsRefuseBadInput(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for want, form := range map[string]url.Values{
		"Act.Reason must not be empty":        {"flow": {"order"}, "reason": {" "}},
		"flow must be the name of a flow":     {"flow": {"order/0"}, "reason": {"keep <this>"}},
		"&#34;&lt;b&gt;&#34;":                 {"flow": {"<b>"}, "reason": {"r"}},
		`flow must be the name of a flow, or`: {"reason": {"r"}},
	} {
		page := s.post("/flows/pause", form, http.StatusBadRequest)
		mustHave(t, page, want, `role="alert"`)
		mustLack(t, page, "<b>", "keep <this>")
	}
	s.must(s.inspector.Pause(t.Context(), "order", false, redisidem.Act{Actor: "bob", Reason: "a ticket"}))
	page := s.post("/flows/pause", url.Values{"flow": {"order"}, "reason": {strings.Repeat("ü", 300)}}, http.StatusBadRequest)
	mustHave(t, page, `role="alert"`, "It is paused already", "a ticket", "<dt>Dead letters</dt><dd>1</dd>")
	mustHave(t, s.get("/flows/pause?flow=%3Cb%3E", http.StatusBadRequest), "&#34;&lt;b&gt;&#34;", `role="alert"`)
	s.get("/flows/none?flow=order", http.StatusNotFound)
	s.post("/flows/none", url.Values{"flow": {"order"}, "reason": {"r"}}, http.StatusNotFound)
	for i := range 63 {
		s.must(s.inspector.Pause(t.Context(), "flow-"+string(rune('a'+i%26))+string(rune('a'+i/26)), false, redisidem.Act{Actor: "a", Reason: "r"}))
	}
	mustHave(t, s.post("/flows/pause", url.Values{"flow": {"order/7"}, "reason": {"r"}}, http.StatusBadRequest), "there are 64 pauses")
}

func TestOnlyOperatorsMayPause(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	s := shop.site(func(c *console.Config) { c.Authorize = as(console.RoleViewer) })
	s.must(s.inspector.Pause(t.Context(), "refund", false, redisidem.Act{Actor: "ann", Reason: "r"}))
	mustLack(t, s.get("/flows", 200), "flows/pause", "flows/resume", "<button")
	mustHave(t, s.get("/flows", 200), "refund")
	for _, act := range []string{"pause", "resume"} {
		mustHave(t, s.get("/flows/"+act+"?flow=refund", http.StatusForbidden), "Only operators")
		mustHave(t, s.post("/flows/"+act, url.Values{"flow": {"refund"}, "reason": {"r"}}, http.StatusForbidden), "Only operators")
	}
	r := formRequest("/flows/resume", url.Values{"flow": {"refund"}, "reason": {"r"}})
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	operator := shop.site()
	mustHave(t, operator.text(operator.serve(r), http.StatusForbidden), "page of another site")
	if got := s.paused(); !slices.Equal(got, []string{"refund/ann/r"}) {
		t.Errorf("%q is paused", got)
	}
}
