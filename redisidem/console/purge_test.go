package console_test

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

func TestPurgeCountsFirst(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	mustHave(t, s.get("/keys?scope=interim", 200), `href="./purge?scope=interim"`)
	mustHave(t, s.get("/purge?scope=interim", 200), `value="interim"`, "Count its keys")
	page := s.post("/acts/purge", url.Values{"scope": {"interim"}}, 200)
	mustHave(t, page, "1 key of scope interim, and 0 keys in flight", `name="confirmed"`, `name="reason"`)
	if got := s.state("interim"); got != "interim" || len(s.audit()) != 0 {
		t.Errorf("the key is %s, the audit %q", got, s.audit())
	}
	confirmed := url.Values{"scope": {"interim"}, "confirmed": {"yes"}, "reason": {"the contract ended"}}
	mustHave(t, s.post("/acts/purge", confirmed, 200), "1 key deleted")
	if got := s.state("interim"); got != "none" {
		t.Errorf("the key is %s", got)
	}
	if got := s.audit(); !slices.Equal(got, []string{
		"purge: began/done/ann/the contract ended", "purge: ended, 1 deleted, 0 locked, 0 unknown/done/ann/the contract ended",
	}) {
		t.Errorf("the audit is %q", got)
	}
	mustLack(t, s.get("/audit", 200), `href="./keys/`) // a purge has an ID, but no page of a key
}

// TestPurgeIsContinued follows the forms of a purge in steps until its end.
func TestPurgeIsContinued(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t) // the embedded one has a single page
	shop := &shop{T: t}
	var err error
	shop.svc, err = redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second, AutoPipeline: true})
	shop.must(err)
	t.Cleanup(func() { _ = shop.svc.Close(context.Background()) })
	shop.inspector = redisidem.NewInspector(shop.svc)
	s := shop.site()
	s.console.PurgePageByPage()
	const many = 600
	for i := range many {
		_, err := s.svc.Scope("many").InitializeRequest(t.Context(), fmt.Sprint("key-", i), request)
		s.must(err)
	}
	mustHave(t, s.post("/acts/purge", url.Values{"scope": {"many"}}, 200), "At least ", "which are not all")
	form := url.Values{"scope": {"many"}, "confirmed": {"yes"}, "reason": {"the contract ended"}}
	steps := 0
	page := s.post("/acts/purge", form, 200)
	for ; strings.Contains(page, ">Continue<") && steps < many; steps++ {
		page = s.post("/acts/purge", nextForm(page), 200)
	}
	mustHave(t, page, fmt.Sprintf("%d keys deleted", many))
	if steps < 2 {
		t.Errorf("the purge took %d steps", steps+1)
	}
	for page, err := range s.inspector.List(t.Context(), redisidem.Filter{Scope: "many"}, "") {
		if err != nil || len(page.Keys) > 0 {
			t.Errorf("%d keys are left: %v", len(page.Keys), err)
		}
	}
}

// TestPurgeThatEndsEarlySaysWhatItDeleted has an operator's Redis user who may write in some shards
// only, so that the first page of the purge fails in its middle.
func TestPurgeThatEndsEarlySaysWhatItDeleted(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	shop := &shop{T: t}
	programs, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second})
	shop.must(err)
	t.Cleanup(func() { _ = programs.Close(context.Background()) })
	const many = 60
	for i := range many {
		_, err := programs.Scope("many").InitializeRequest(t.Context(), fmt.Sprint("key-", i), request)
		shop.must(err)
	}
	may := func(writable string) {
		shop.must(admin.Do(t.Context(), "ACL", "SETUSER", "operator", "reset", "on", ">pw", "+@all", "allchannels",
			"%R~*", "~redisidem:{???}:audit", "~redisidem:{"+writable+"*").Err())
	}
	may("[01]")
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr(), Username: "operator", Password: "pw", DisableIdentity: true, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = client.Close() })
	shop.svc, err = redisidem.New(client, &redisidem.Config{Timeout: 20 * time.Second})
	shop.must(err)
	t.Cleanup(func() { _ = shop.svc.Close(context.Background()) })
	shop.inspector = redisidem.NewInspector(shop.svc)
	s := shop.site()
	left := func() (n int) {
		for page, err := range s.inspector.List(t.Context(), redisidem.Filter{Scope: "many"}, "") {
			s.must(err)
			n += len(page.Keys)
		}
		return n
	}

	form := url.Values{"scope": {"many"}, "confirmed": {"yes"}, "reason": {"the contract ended"}}
	page := s.post("/acts/purge", form, http.StatusForbidden)
	deleted := many - left()
	if deleted == 0 || deleted == many {
		t.Fatalf("%d of %d keys were deleted", deleted, many)
	}
	mustHave(t, page, "lacks a right", fmt.Sprintf("%d keys deleted", deleted), ">Continue<")
	mustLack(t, page, "Nothing was changed")

	may("")
	mustHave(t, s.post("/acts/purge", nextForm(page), 200), fmt.Sprintf("%d keys deleted", many))
	if n := left(); n > 0 {
		t.Errorf("%d keys are left", n)
	}
}

// nextForm returns the form of a page that continues a purge.
func nextForm(page string) url.Values {
	form := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(page, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	return form
}

var hiddenField = regexp.MustCompile(`type="hidden" name="(\w+)" value="([^"]*)"`)

func TestPurgeLeavesKeysInFlight(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	mustHave(t, s.post("/acts/purge", url.Values{"scope": {"in-flight"}}, 200), "0 keys of scope in-flight, and 1 key in flight")
	confirmed := url.Values{"scope": {"in-flight"}, "confirmed": {"yes"}, "reason": {"r"}, "deleted": {"5"}, "records": {"7"}}
	mustHave(t, s.post("/acts/purge", confirmed, 200), "5 keys deleted", "1 key in flight left")
	if got := s.state("in-flight"); got != "in-flight" {
		t.Errorf("the key is %s", got)
	}
}

func TestPurgeRefusesBadInput(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for want, form := range map[string]url.Values{
		"Scope must not be empty": {"scope": {""}},
		"Act.Reason":              {"scope": {"interim"}, "confirmed": {"yes"}, "reason": {" "}},
		"cursor":                  {"scope": {"interim"}, "confirmed": {"yes"}, "reason": {"r"}, "cursor": {"nonsense"}},
	} {
		mustHave(t, s.post("/acts/purge", form, http.StatusBadRequest), want, `role="alert"`)
	}
	viewer := newShop(t).site(func(c *console.Config) { c.Authorize = as(console.RoleViewer) })
	mustHave(t, viewer.get("/purge", http.StatusForbidden), "Only operators")
	mustHave(t, viewer.post("/acts/purge", url.Values{"scope": {"interim"}, "confirmed": {"yes"}, "reason": {"r"}}, http.StatusForbidden), "Only operators")
	mustLack(t, viewer.get("/keys?scope=interim", 200), "Purge this scope")
	if got := s.state("interim"); got != "interim" {
		t.Errorf("the key is %s", got)
	}
}
