package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// TestScopeUsage compares what the command prints about a scope that two processes use with
// testdata/scopeusage.txt.
func TestScopeUsage(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	service, err := redisidem.New(client, &redisidem.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close(context.Background()); _ = client.Close() })
	for range 2 {
		quota, err := redisidem.NewQuota(service, redisidem.QuotaConfig{InFlight: 200, Stored: 2000})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = quota.Close(context.Background()) })
		for i := range 4 {
			done, err := quota.Admit(t.Context(), "acme")
			if err != nil {
				t.Fatal(err)
			}
			if i < 3 {
				done(true)
			}
		}
	}
	// The processes report their use with their renewals.
	want := redisidem.ScopeUse{
		Processes: 2, InFlight: 2, InFlightHeld: 12, InFlightLimit: 200, Stored: 6, StoredHeld: 102, StoredLimit: 2000,
	}
	var use redisidem.ScopeUse
	for end := time.Now().Add(time.Minute); use != want; time.Sleep(50 * time.Millisecond) {
		if use, err = redisidem.NewInspector(service).ScopeUse(t.Context(), "acme"); err != nil || time.Now().After(end) {
			t.Fatalf("%+v, %v, want %+v", use, err, want)
		}
	}
	var session strings.Builder
	for _, args := range []string{"scope usage acme", "scope usage acme --output json", "scope usage unused"} {
		fmt.Fprintf(&session, "$ redisidem %s\n%s\n", args, command(t, server.Addr(), "", strings.Fields(args)...))
	}
	golden(t, "scopeusage.txt", session.String())
}

// TestDryRunOfAPurgePrintsARow reads what the page about operations promises for machines.
func TestDryRunOfAPurgePrintsARow(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for args, want := range map[string]string{
		"finished":                "HITS  LOCKED\n1     0\n",
		"finished --output json":  "{\"hits\":1,\"locked\":0}\n",
		"in-flight --output json": "{\"hits\":0,\"locked\":1}\n",
	} {
		if got := command(t, s.server.Addr(), "", strings.Fields("scope purge --dry-run "+args)...); got != want {
			t.Errorf("%s prints\n%s\nwant\n%s", args, got, want)
		}
	}
}

// TestStoppedPurgeSaysWhatItDid lets a server refuse, in the first page, the second key that is to
// be deleted.
func TestStoppedPurgeSaysWhatItDid(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	buryMore(t, s, "order-2", "order-3", "order-4")
	deletes := 0
	s.server.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if name := strings.ToUpper(cmd); (name == "EVALSHA" || name == "EVAL") && strings.Contains(strings.Join(args, " "), "{") && !strings.Contains(strings.Join(args, " "), ":audit") {
			deletes++
			if deletes > 2 { // the first is unknown by its name, and sent again
				c.WriteError("NOPERM this user has no permissions")
				return true
			}
		}
		return false
	})
	got := command(t, s.server.Addr(), "", "scope", "purge", "acme", "--reason=left", "--yes")
	if !strings.Contains(got, "1 key deleted; repeat the command for the rest\n") || !strings.Contains(got, "lacks a right") || !strings.HasSuffix(got, "[exit status 1]\n") {
		t.Errorf("after %d deletes it prints\n%s", deletes, got)
	}
}
