package console_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

// openCluster opens the shop's service with a timeout.
func (s *shop) openCluster(cluster *redistest.Cluster, timeout time.Duration) {
	s.Helper()
	svc, err := redisidem.OpenUnchecked("redis+cluster://"+cluster.Nodes[0].Addr()+"?addr="+cluster.Nodes[1].Addr()+"&addr="+cluster.Nodes[2].Addr(), &redisidem.Config{
		Timeout: timeout, Lease: time.Hour, Owner: "worker-1",
	})
	s.must(err)
	s.Cleanup(func() { _ = svc.Close(context.Background()) })
	s.svc, s.inspector = svc, redisidem.NewInspector(svc)
}

// newClusterShop makes keys in five states on a cluster, each in a scope of the state's name, and
// many finished ones on all masters.
func newClusterShop(t *testing.T, cluster *redistest.Cluster, many int) *shop {
	t.Helper()
	s := &shop{T: t, ids: make(map[string]string)}
	s.openCluster(cluster, 20*time.Second)
	ends := func(o redisidem.Outcome, err error) redisidem.StageFunc {
		return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, err }
	}
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: ends(redisidem.Next(), nil)},
			{Point: "paid", Work: ends(redisidem.Outcome{}, errProvider)},
		},
	})
	s.must(err)
	answer := redisidem.JSON(http.StatusCreated, "done")
	for i := range many {
		_, err := s.svc.Scope("many").Do(t.Context(), fmt.Sprint("order-", i), request, ends(redisidem.Finish(answer), nil))
		s.must(err)
	}
	for _, scope := range []string{"dead", "canceled"} {
		if _, err := s.svc.Scope(scope).DoFlow(t.Context(), "order-1", request, flow); !errors.Is(err, errProvider) {
			t.Fatal(err)
		}
		s.bury(flow)
	}
	if _, err := s.svc.Scope("interrupted").Do(t.Context(), "order-1", request, ends(redisidem.Outcome{}, errProvider)); !errors.Is(err, errProvider) {
		t.Fatal(err)
	}
	for _, scope := range []string{"idle", "in-flight"} {
		_, err := s.svc.Scope(scope).InitializeRequest(t.Context(), "order-1", request)
		s.must(err)
	}
	lease, err := s.svc.Scope("in-flight").Lock(t.Context(), "order-1")
	s.must(err)
	t.Cleanup(func() { _ = lease.Abandon(context.Background()) })
	for _, scope := range []string{"dead", "canceled", "interrupted", "idle", "in-flight"} {
		s.ids[scope] = s.svc.Scope(scope).ID("order-1")
	}
	return s
}

// TestConsoleOnACluster opens each page and does each act on a cluster, and then takes one of its
// masters away.
func TestConsoleOnACluster(t *testing.T) {
	t.Parallel()
	cluster := rediscase.Cluster(t)
	const many = 120
	shop := newClusterShop(t, cluster, many)
	s := shop.site(func(c *console.Config) { c.Check = shop.svc.Check })

	page := s.get("/", 200)
	mustHave(t, page, fmt.Sprintf(`<td data-label="Keys" class="n">%d</td>`, many+5), `href="./dead?flow=order">2</a>`, "all transitions of a key work")
	for slot := range 3 {
		owner, _, err := cluster.Owner(slot * 6000)
		s.must(err)
		mustHave(t, page, owner.Addr())
	}
	found := 0
	for path := "/keys?scope=many"; path != ""; {
		page := s.get(path, 200)
		found += strings.Count(page, `class="id"`)
		_, rest, _ := strings.Cut(page, `rel="next" href=".`)
		path, _, _ = strings.Cut(strings.ReplaceAll(rest, "&amp;", "&"), `"`)
	}
	if found != many {
		t.Errorf("the lists have %d keys, want %d", found, many)
	}
	mustHave(t, s.get("/dead", 200), s.ids["dead"], s.ids["canceled"])
	mustHave(t, s.get("/flows?count=1", 200), "order/1", "without a flow")
	for scope, id := range s.ids {
		mustHave(t, s.get("/keys/"+id, 200), "<dd>"+scope+"</dd>")
		if got := s.serve(formlessRequest("/find?id=" + id)); got.StatusCode != http.StatusSeeOther {
			t.Errorf("the key of %s is not found by its ID: %d", scope, got.StatusCode)
		}
	}

	s.post("/acts/unlock", s.form("in-flight"), http.StatusSeeOther)
	s.post("/acts/requeue", s.form("dead"), http.StatusSeeOther)
	s.post("/acts/cancel", s.form("canceled"), http.StatusSeeOther)
	s.post("/acts/resolve", s.form("interrupted", "status", "201"), http.StatusSeeOther)
	s.post("/acts/delete", s.form("idle"), http.StatusOK)
	mustHave(t, s.post("/acts/purge", url.Values{"scope": {"many"}}, 200), fmt.Sprintf("%d keys of scope many", many))
	purge := url.Values{"scope": {"many"}, "confirmed": {"yes"}, "reason": {"ticket 4711"}}
	mustHave(t, s.post("/acts/purge", purge, 200), fmt.Sprintf("%d keys deleted", many))
	s.post("/flows/pause", url.Values{"flow": {"order"}, "reason": {"ticket 4711"}}, http.StatusSeeOther)
	s.post("/flows/resume", url.Values{"flow": {"order"}, "reason": {"ticket 4711"}}, http.StatusSeeOther)
	states := make([]string, 0, len(s.ids))
	for _, scope := range []string{"in-flight", "dead", "canceled", "interrupted", "idle"} {
		states = append(states, s.state(scope))
	}
	if !slices.Equal(states, []string{"interrupted", "idle", "idle", "finished", "none"}) {
		t.Errorf("after the acts the keys are %q", states)
	}
	got := s.audit()
	slices.Sort(got) // the clocks of the masters may differ
	if want := []string{
		"cancel/done/ann/ticket 4711", "delete/done/ann/ticket 4711", "pause/done/ann/ticket 4711", "purge: began/done/ann/ticket 4711",
		"purge: ended, 120 deleted, 0 locked, 0 unknown/done/ann/ticket 4711", "requeue/done/ann/ticket 4711",
		"resolve/done/ann/ticket 4711", "resume/done/ann/ticket 4711", "unlock/done/ann/ticket 4711",
	}; !slices.Equal(got, want) {
		t.Errorf("the audit is %q", got)
	}

	owner, replicas, err := cluster.Owner(0)
	s.must(err)
	owner.Kill()
	for _, r := range replicas {
		r.Kill()
	}
	shop.openCluster(cluster, 300*time.Millisecond)
	s = shop.site()
	for _, path := range []string{"/keys", "/audit", "/flows?count=1", "/keys/" + s.ids["dead"]} {
		mustHave(t, s.get(path, http.StatusServiceUnavailable), "Redis gave no answer in time")
	}
	mustHave(t, s.get("/", 200), "Redis gave no answer in time")
}
