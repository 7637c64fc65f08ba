package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// TestOpenLogsWarnings checks that Open logs the warnings that it does not refuse.
func TestOpenLogsWarnings(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	var log strings.Builder
	svc, err := redisidem.Open(ctx, "redis://"+server.Addr(), &redisidem.Config{Timeout: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	mustBe(t, err, nil)
	mustBe(t, svc.Close(ctx), nil)
	for _, words := range []string{"level=WARN", "subject=persistence", "set appendonly yes", server.Addr()} {
		if !strings.Contains(log.String(), words) {
			t.Errorf("the log lacks %q: %s", words, log.String())
		}
	}
}

func TestOpenGivesUpOnAServerThatIsAway(t *testing.T) {
	t.Parallel()
	addrs := map[string]string{"refused": "127.0.0.1:1"}
	if hole, err := redistest.StartBlackHole(); err == nil {
		t.Cleanup(hole.Stop)
		addrs["silent"] = hole.Addr()
	} else if !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	for name, addr := range addrs {
		for _, form := range []string{"redis://%s", "redis+cluster://%s", "redis+sentinel://%s?master_name=x"} {
			t.Run(name+" "+form, func(t *testing.T) {
				t.Parallel()
				const timeout, grace, tries = 400 * time.Millisecond, time.Second, 5
				// The machine may be busy with other tests.
				best := time.Hour
				for i := 0; i < tries && best > timeout+grace; i++ {
					began := time.Now()
					svc, err := redisidem.Open(ctx, fmt.Sprintf(form, addr), &redisidem.Config{Timeout: timeout})
					mustBe(t, err, redisidem.ErrUnavailable)
					best = min(best, time.Since(began))
					if svc != nil {
						t.Error("there is a service")
					}
				}
				if best > timeout+grace {
					t.Errorf("took %v with a timeout of %v, want at most %v", best, timeout, timeout+grace)
				}
			})
		}
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := redisidem.Open(ended, "redis://127.0.0.1:1", nil)
	mustBe(t, err, redisidem.ErrUnavailable)
	mustBe(t, err, context.Canceled)
}

func TestOpenRefusesURLs(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", "127.0.0.1:6379", "http://127.0.0.1:6379", "redis+ring://127.0.0.1:6379", "unix:///tmp/redis.sock",
		"redis://127.0.0.1:6379/notanumber", "redis://127.0.0.1:6379?nosuchoption=1", "redis+sentinel://127.0.0.1:26379",
		"redis://127.0.0.1:port",
	} {
		svc, err := redisidem.Open(ctx, raw, nil)
		mustBeInvalid(t, err, "url")
		if svc != nil {
			t.Errorf("%q makes a service", raw)
		}
	}
	_, err := redisidem.Open(ctx, "redis://127.0.0.1:1", &redisidem.Config{Lease: time.Microsecond})
	mustBeInvalid(t, err, "Config.Lease", "10ms")
}

func TestOpenShowsWhatAURLLooksLike(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", " ", "127.0.0.1:6379", "localhost:6379", "localhost", "redis:127.0.0.1", "redis://a:b%@127.0.0.1", "http://127.0.0.1"} {
		_, err := redisidem.Open(ctx, raw, nil)
		mustBeInvalid(t, err, "url", "redis://")
	}
}

func TestOpenKeepsThePasswordToItself(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"s3cret", "s3cr@t", "s3 cr%t"} {
		text := url.QueryEscape(secret)
		user := "u:" + url.PathEscape(secret) + "@"
		for _, raw := range []string{
			"redis://" + user + "127.0.0.1:1",
			"redis://" + user + "127.0.0.1:1/notanumber",
			"redis://" + user + "127.0.0.1:1/1/2",
			"redis://" + user + "127.0.0.1:1?nosuchoption=1",
			"redis://" + user + "127.0.0.1:1?read_timeout=never",
			"redis://" + user + "127.0.0.1:port",
			"redis://" + user + "ho st:1",
			"redis://" + user + "\x7f",
			"ftp://" + user + "127.0.0.1:1",
			"redis+ring://" + user + "127.0.0.1:1",
			"redis+cluster://" + user + "127.0.0.1:1",
			"redis+cluster://" + user + "127.0.0.1:1?addr=" + user + "::",
			"redis+cluster://" + user + "127.0.0.1:1?read_timeout=never",
			"redis+sentinel://" + user + "127.0.0.1:1",
			"redis+sentinel://" + user + "127.0.0.1:1?master_name=x",
			"redis+sentinel://" + user + "127.0.0.1:1/notanumber?master_name=x",
			"redis+sentinel://127.0.0.1:1?master_name=x&sentinel_password=" + text + "&db=x",
			"redis://u:" + secret + "/@127.0.0.1:1",
		} {
			_, err := redisidem.Open(ctx, raw, &redisidem.Config{Timeout: 50 * time.Millisecond})
			if err == nil {
				t.Errorf("%q was opened", raw)
				continue
			}
			for _, form := range []string{secret, url.PathEscape(secret), url.QueryEscape(secret)} {
				if strings.Contains(err.Error(), form) {
					t.Errorf("the error for %q is %q", raw, err)
				}
			}
		}
	}
}

func TestOpenWithPassword(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t, redistest.Args("--requirepass", "s3cret"))
	svc, err := redisidem.Open(ctx, "redis://:s3cret@"+server.Addr(), &redisidem.Config{Timeout: 5 * time.Second})
	mustBe(t, err, nil)
	mustBe(t, svc.Close(ctx), nil)
	for _, user := range []string{"", ":wr0ng@"} {
		_, err := redisidem.Open(ctx, "redis://"+user+server.Addr(), nil)
		if err == nil || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("with %q: %v", user, err)
		}
	}
}

func TestOpenEachForm(t *testing.T) {
	t.Parallel()
	shared(t, &standalone)
	shared(t, &cluster)
	shared(t, &sentinel)
	more := func(addrs []string, with ...string) string {
		for _, a := range addrs[1:] {
			with = append(with, "addr="+a)
		}
		return addrs[0] + "?" + strings.Join(with, "&")
	}
	for form, nodes := range map[string]int{
		"redis://" + standalone.server.Addr() + "/0":                                                           1,
		"redis+cluster://" + more(cluster.server.Addrs()):                                                      3,
		"redis+sentinel://" + more(sentinel.server.Addrs(), "master_name="+sentinel.server.MasterName, "db=0"): 1,
	} {
		svc, err := redisidem.Open(ctx, form, &redisidem.Config{Namespace: freshNamespace(), Timeout: 5 * time.Second})
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		if _, err := svc.Scope("a").Do(ctx, "k", request, finish("done")); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		report, err := svc.Check(ctx)
		mustBe(t, err, nil)
		var seen []string
		for _, f := range report.Findings {
			if f.Subject == "eviction" {
				seen = append(seen, f.Node)
			}
		}
		slices.Sort(seen)
		if len(slices.Compact(seen)) != nodes {
			t.Errorf("%s: looked at %q, want %d nodes", form, seen, nodes)
		}
		mustBe(t, svc.Close(ctx), nil)
		_, err = svc.Scope("a").Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrClosed)
	}
}

// TestS15_PasswordsAreNotDisclosed reads the error for a URL that does not work.
func TestS15_PasswordsAreNotDisclosed(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://app:s3cret@127.0.0.1:1", "rediss://app:s3cret@127.0.0.1:1", "redis://app:s3cret@127.0.0.1:1/x", "http://app:s3cret@127.0.0.1:1",
		"redis://app:s3cret@127.0.0.1:1?nonsense=1", "redis+cluster://app:s3cret@127.0.0.1:1", "redis+sentinel://app:s3cret@127.0.0.1:1",
		"redis://app:s3cret@%zz",
	} {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		_, err := redisidem.Open(short, url, &redisidem.Config{Timeout: 50 * time.Millisecond})
		cancel()
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
