package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// tail is a process that tails keys.
type tail struct {
	*exec.Cmd
	ended chan error
	lines chan string // of standard output and, with "! " before, of standard error
	seen  []string    // sorted between two waits, since acts and keys are looked at one after the other
	said  []string    // on standard error
}

func startTail(t *testing.T, addr string, args ...string) *tail {
	t.Helper()
	p := &tail{Cmd: exec.CommandContext(t.Context(), os.Args[0], append([]string{"tail", "--interval=100ms", "--pace=100000"}, args...)...), ended: make(chan error, 1), lines: make(chan string, 100)} //nolint:gosec // this very binary
	p.Env = append(os.Environ(), program+"=1", "REDIS_URL=redis://"+addr)
	p.SysProcAttr = dieWithParent()
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			p.lines <- s.Text()
		}
	})
	reading.Go(func() {
		for s := bufio.NewScanner(stderr); s.Scan(); {
			p.lines <- "! " + s.Text()
		}
	})
	go func() {
		reading.Wait()
		p.ended <- p.Wait()
	}()
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// until waits for a line with each of the texts.
func (p *tail) until(t *testing.T, texts ...string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	before := len(p.seen)
	for len(texts) > 0 {
		select {
		case line := <-p.lines:
			if strings.HasPrefix(line, "! ") {
				p.said = append(p.said, line)
			} else {
				p.seen = append(p.seen, line)
			}
			for i, text := range texts {
				if strings.Contains(line, text) {
					texts = append(texts[:i:i], texts[i+1:]...)
					break
				}
			}
		case <-limit:
			t.Fatalf("there is no line with %q:\n%s", texts, strings.Join(append(p.seen, p.said...), "\n"))
		}
	}
	slices.SortFunc(p.seen[before:], func(a, b string) int {
		word := func(line string) string { // its event
			line = strings.TrimPrefix(line, `{"at":`)
			return strings.TrimLeft(line, "-0123456789 :.TZ\",WHENevt")
		}
		return strings.Compare(word(a), word(b))
	})
}

// end waits until the process has ended by itself.
func (p *tail) end(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("an interrupt does not end it")
	}
}

// TestTailShowsWhatHappens compares the events of a table with testdata/tail.txt, and those of JSON
// with testdata/tail.json.
func TestTailShowsWhatHappens(t *testing.T) {
	t.Parallel()
	for _, output := range []string{"table", "json"} {
		t.Run(output, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.server.SetTime(s.now)
			word := func(text string) string { return `"event":"` + text + `"` }
			if output == "table" {
				word = func(text string) string { return "  " + text + "  " }
			}
			p := startTail(t, s.server.Addr(), "--output", output)
			p.until(t, "! all records were looked at: 3 keys abandoned, interrupted or dead")

			command(t, s.server.Addr(), "", "keys", "resolve", s.ids["interrupted"], "--status=201", "--reason=charged", "--yes")
			p.until(t, word("act"), word("not-interrupted"))
			command(t, s.server.Addr(), "", "keys", "resolve", s.ids["interrupted"], "--status=201", "--reason=again", "--yes")
			command(t, s.server.Addr(), "", "dead", "requeue", "--reason=mended", "--yes")
			p.until(t, word("act"), word("dead-letters"), word("not-dead"))

			lease, err := s.svc.Scope("acme").Lock(t.Context(), newKey(t, s, "order-2"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = lease.Abandon(context.Background()) })
			for _, name := range s.server.Keys() {
				if strings.HasSuffix(name, lease.Key().ID()+":lock") {
					s.server.Del(name)
				}
			}
			p.until(t, word("abandoned"))
			_, err = s.svc.Scope("acme").Do(t.Context(), newKey(t, s, "order-3"), redisidem.Request{Method: "POST", Path: "/orders"},
				func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Outcome{}, fmt.Errorf("declined\x1b[31m")
				})
			if err == nil {
				t.Fatal("the stage did not fail")
			}
			p.until(t, word("interrupted"))

			s.server.SetError("LOADING the dataset is in memory")
			p.until(t, "it is asked again")
			s.server.SetError("")
			if err := p.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			p.end(t)
			// Some times are those of this machine.
			text := regexp.MustCompile(`(?m)^(\{"at":")?[-0-9]{10}[T ][0-9:.]+Z?(.*(?:not-|dead-letters|it is asked).*)$`).ReplaceAllString(strings.Join(append(p.seen, p.said...), "\n")+"\n", "${1}NOW$2")
			text = regexp.MustCompile(`(?m)^! .*(; it is asked again)$`).ReplaceAllString(text, "! ERROR$1")
			golden(t, "tail."+map[string]string{"table": "txt", "json": "json"}[output], text)
		})
	}
}

// newKey makes a key, and returns its value.
func newKey(t *testing.T, s *shop, value string) string {
	t.Helper()
	if _, err := s.svc.Scope("acme").InitializeRequest(t.Context(), value, redisidem.Request{Method: "POST", Path: "/orders"}); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestTailRefusesBounds(t *testing.T) {
	t.Parallel()
	for args, want := range map[string][]string{
		"--interval=99ms": {"--interval 99ms must be at least 100ms", "[exit status 2]\n"},
		"--pace=0":        {"--pace 0 must be at least 1", "[exit status 2]\n"},
		"--timeout=50ms":  {"redis unavailable", "[exit status 1]\n"},
	} {
		if got := command(t, "127.0.0.1:1", "", "tail", "--timeout=1s", args); !strings.Contains(got, want[0]) || !strings.HasSuffix(got, want[1]) {
			t.Errorf("%s prints\n%s", args, got)
		}
	}
}

// TestTailBeginsAgainWhenMastersChanged continues with a cursor of masters that are gone.
func TestTailBeginsAgainWhenMastersChanged(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	svc, err := redisidem.New(client, &redisidem.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	if _, err := svc.Scope("shop").Do(t.Context(), "k", redisidem.Request{Method: "POST"}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Outcome{}, errors.New("down")
	}); err == nil {
		t.Fatal("the work succeeded")
	}
	l := newLook(redisidem.NewInspector(svc), redisidem.Filter{States: []redisidem.KeyState{redisidem.KeyInterrupted}})
	l.cursor = "0@10.0.0.1:6379"
	l.stuck["left"] = tailEvent{}
	for range 2 {
		if _, err := l.next(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
	}
	if l.passes != 1 || len(l.before) != 1 {
		t.Errorf("%d passes, in which %d keys were stuck", l.passes, len(l.before))
	}
}

// scanCounter counts the steps of scans.
type scanCounter struct{ scans int }

func (c *scanCounter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *scanCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (c *scanCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "scan" {
			c.scans++
		}
		return next(ctx, cmd)
	}
}

// TestTailKeepsItsPace looks at two pages in each interval, and counts what Redis is asked for.
func TestTailKeepsItsPace(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: rediscase.Server(t).Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	counter := &scanCounter{}
	client.AddHook(counter)
	svc, err := redisidem.New(client, &redisidem.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	for i := range 1500 {
		if _, err := svc.Scope("shop").InitializeRequest(t.Context(), fmt.Sprint(i), redisidem.Request{Method: "POST"}); err != nil {
			t.Fatal(err)
		}
	}
	l := newLook(redisidem.NewInspector(svc), redisidem.Filter{States: []redisidem.KeyState{redisidem.KeyInterrupted}})
	defer l.close()
	for i := range 5 {
		if _, err := l.next(t.Context(), 200); err != nil {
			t.Fatal(err)
		}
		if most := 2*(i+1) + 2; counter.scans > most || l.passes > 0 {
			t.Errorf("after %d intervals there were %d scans and %d passes, want %d scans at most", i+1, counter.scans, l.passes, most)
		}
	}
}
