package console_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestAuditShowsTheNewestActsFirst(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	mustHave(t, s.get("/audit", 200), "No entry matches.")
	k, err := s.inspector.Find(t.Context(), s.ids["idle"])
	s.must(err)
	for i := range 202 {
		s.must(s.inspector.AuditRead(t.Context(), k, redisidem.Act{Actor: "bob", Reason: fmt.Sprintf("reason <%03d>", i)}))
	}
	s.must(s.inspector.Delete(t.Context(), k, redisidem.Act{Actor: "ann", Reason: "last"}))
	page := s.get("/audit", 200)
	mustHave(t, page, "200 of 203 acts", "last", "reason &lt;201&gt;", "limit=1000")
	mustLack(t, page, "reason &lt;000&gt;", "reason <")
	if strings.Index(page, "last") > strings.Index(page, "reason &lt;201&gt;") {
		t.Error("the newest act is not the first")
	}
	page = s.get("/audit?limit=1000&actor=bob&since=0", 200)
	mustHave(t, page, "202 of 202 acts", "reason &lt;000&gt;")
	mustLack(t, page, "last", "Show more")
	mustHave(t, s.get("/audit?key="+s.ids["dead"], 200), "No entry matches.")
	mustHave(t, s.get("/audit?since=1h&key="+url.QueryEscape(s.ids["idle"]), 200), "200 of 203 acts")
	for query, want := range map[string]string{
		"since=x": "Since must be a duration", "since=-1h": "Since must be a duration", "limit=0": "Limit must be a number", "limit=50001": "from 1 to 50000",
	} {
		mustHave(t, s.get("/audit?"+query, 400), want, `role="alert"`)
	}
}

// TestAuditBesideAKeyOfAnotherType has a text in place of the audit of one shard.
func TestAuditBesideAKeyOfAnotherType(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	k, err := s.inspector.Find(t.Context(), s.ids["idle"])
	s.must(err)
	s.must(s.inspector.AuditRead(t.Context(), k, redisidem.Act{Actor: "bob", Reason: "ticket 4711"}))
	s.must(s.server.Set("redisidem:{002}:audit", "a text"))
	mustHave(t, s.site().get("/audit", 200), "ticket 4711", "redisidem:{002}:audit", `role="alert"`)
}
