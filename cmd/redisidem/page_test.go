package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// TestListHasNoMoreThanItsLimit reads 300 keys in parts. Each key is printed once, and no part has
// more rows than --limit says.
func TestListHasNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	const keys = 300
	for i := range keys {
		if _, err := svc.Scope("acme").InitializeRequest(t.Context(), fmt.Sprint(i), redisidem.Request{Method: "POST", Path: "/"}); err != nil {
			t.Fatal(err)
		}
	}
	next := regexp.MustCompile(`continue with --cursor (\S+)`)
	for _, limit := range []int{1, 8, 70, 250} {
		printed, cursor := make(map[string]int), ""
		parts := 0
		for ; parts < 20; parts++ { // with --limit 1 only a part of the keys
			args := []string{"keys", "list", "--timeout=20s", fmt.Sprint("--limit=", limit)}
			if cursor != "" {
				args = append(args, "--cursor="+cursor)
			}
			got := command(t, server.Addr(), "", args...)
			rows := 0
			table, _, _ := strings.Cut(got, "[standard error]")
			for line := range strings.Lines(table) {
				if id, _, _ := strings.Cut(line, " "); id != "ID" {
					printed[id]++
					rows++
				}
			}
			if rows > limit {
				t.Fatalf("--limit %d prints %d rows:\n%s", limit, rows, got)
			}
			found := next.FindStringSubmatch(got)
			if found == nil {
				break
			}
			if rows != limit {
				t.Fatalf("--limit %d prints %d rows, and goes on", limit, rows)
			}
			cursor = found[1]
		}
		for id, n := range printed {
			if n != 1 {
				t.Errorf("--limit %d prints %s %d times", limit, id, n)
			}
		}
		if want := min(keys, 20*limit); len(printed) != want {
			t.Errorf("--limit %d prints %d keys in %d parts, want %d", limit, len(printed), parts, want)
		}
	}
}

// TestRecentForgets has more IDs than are kept.
func TestRecentForgets(t *testing.T) {
	t.Parallel()
	var r recent
	for i := range 5 * recentKeys {
		if !r.add(fmt.Sprint(i)) {
			t.Fatalf("%d is said to be there", i)
		}
		if i >= 100 && r.add(fmt.Sprint(i-100)) {
			t.Fatalf("%d is forgotten at once", i-100)
		}
		if n := len(r.now) + len(r.before); n > 2*recentKeys {
			t.Fatalf("%d are kept", n)
		}
	}
}
