package console_test

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// TestRedisUserThatMayOnlyRead has the rights that docs/operations.md lists for a viewer.
func TestRedisUserThatMayOnlyRead(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	s := &shop{T: t, ids: make(map[string]string)}
	programs, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second})
	s.must(err)
	t.Cleanup(func() { _ = programs.Close(context.Background()) })
	_, err = programs.Scope("idle").InitializeRequest(t.Context(), "order-1", request)
	s.must(err)
	s.ids["idle"] = programs.Scope("idle").ID("order-1")
	rules := []any{"ACL", "SETUSER", "viewer", "on", ">pw-of-the-viewer", "resetchannels", "resetkeys", "~redisidem:*", "-@all"}
	for _, name := range []string{"hello", "auth", "exists", "hmget", "hgetall", "pttl", "time", "zscore", "zscan", "scan", "dbsize", "randomkey", "multi", "exec", "zcount", "xrange"} {
		rules = append(rules, "+"+name)
	}
	s.must(admin.Do(t.Context(), rules...).Err())
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr(), Username: "viewer", Password: "pw-of-the-viewer", DisableIdentity: true, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = client.Close() })
	s.svc, err = redisidem.New(client, &redisidem.Config{Timeout: 20 * time.Second})
	s.must(err)
	t.Cleanup(func() { _ = s.svc.Close(context.Background()) })
	s.inspector = redisidem.NewInspector(s.svc)
	c := s.site()
	for _, path := range []string{"/", "/keys", "/keys/" + s.ids["idle"], "/dead", "/flows?count=1", "/audit"} {
		mustLack(t, c.get(path, 200), "pw-of", `role="alert"`)
	}
	for _, act := range []string{"delete", "read"} {
		page := c.post("/acts/"+act, c.form("idle"), http.StatusConflict)
		mustHave(t, page, "Redis user lacks a right")
		mustLack(t, page+c.log.String(), "pw-of", secretBody)
	}
	mustHave(t, c.post("/acts/resolve", url.Values{"target": {c.target("idle")}}, 200), "Resolve 1 key?")
	if got := s.state("idle"); got != "idle" || len(s.audit()) != 0 {
		t.Errorf("the key is %s, the audit %q", got, s.audit())
	}
}
