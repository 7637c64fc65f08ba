package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// TestInterruptEndsAQuestion sends the signals that end a program while a command waits for an
// answer, and while it reads a body.
func TestInterruptEndsAQuestion(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.server.SetTime(s.now)
	before := s.server.Dump()
	for _, line := range []string{
		"keys delete --reason=r " + s.ids["interim"], "keys resolve --reason=r --yes --status=200 --body=- " + s.ids["interrupted"],
	} {
		for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			cmd := exec.CommandContext(ctx, os.Args[0], strings.Fields(line)...) //nolint:gosec // this very binary
			cmd.Env = append(os.Environ(), program+"=1", "REDIS_URL=redis://"+s.server.Addr(), "REDISIDEM_ACTOR=ann")
			cmd.SysProcAttr = dieWithParent()
			input, err := cmd.StdinPipe() // it stays open
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			said := make(chan struct{}, 100)
			cmd.Stderr = writer(func(b []byte) { text.Write(b); said <- struct{}{} })
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, "delete") {
				<-said // the question
			} else if _, err := input.Write(make([]byte, 256<<10)); err != nil { // more than a pipe has room for, so it reads
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || !strings.Contains(text.String(), "nothing was done: interrupt") && !strings.Contains(text.String(), "nothing was done: terminated") {
				t.Errorf("%s after %v: %v, %q", line, signal, err, text.String())
			}
			cancel()
		}
	}
	if after := s.server.Dump(); after != before {
		t.Errorf("Redis has changed:\n%s", difference(before, after))
	}
}

type writer func(b []byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// TestDeadCommandsOfAUserWhoMayOnlyRead are refused at the first dead letter, and nothing about
// them is unknown.
func TestDeadCommandsOfAUserWhoMayOnlyRead(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	rules := regexp.MustCompile(`(?s)ACL SETUSER viewer on >password (.*?)` + "```").FindStringSubmatch(operatorPages(t))
	for _, rule := range append([]string{"reset", "on", ">hunter2"}, strings.Fields(rules[1])...) {
		if strings.HasPrefix(rule, "+client|") {
			continue // older servers do not have all of them
		}
		if err := admin.Do(t.Context(), "ACL", "SETUSER", "reader", rule).Err(); err != nil {
			t.Fatal(err)
		}
	}
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	failed := errors.New("the provider is away")
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, failed
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"a", "b"} {
		if _, err := svc.Scope("acme").DoFlow(t.Context(), value, redisidem.Request{Method: "POST"}, flow); !errors.Is(err, failed) {
			t.Fatal(err)
		}
	}
	var buried int64
	for end := time.Now().Add(20 * time.Second); buried < 2 && time.Now().Before(end); {
		swept, err := completer.Sweep(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		buried += swept.DeadLettered
	}
	for _, args := range []string{"dead requeue --yes --reason=r --timeout=20s", "dead delete --yes --reason=r --timeout=20s"} {
		got := command(t, "reader:hunter2@"+server.Addr(), "", strings.Fields(args)...)
		if strings.Contains(got, "unknown") || !strings.Contains(got, "the Redis user lacks a right") || !strings.HasPrefix(got, "ID  DONE\n[standard error]\n") {
			t.Errorf("%s prints\n%s", args, got)
		}
	}
}

// TestUnlockOfAFreeKeyIsRefused has keys on which no worker has a lease.
func TestUnlockOfAFreeKeyIsRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for state, want := range map[string]string{"interim": "key is not locked", "finished": "key is finished", "due": "key is not locked"} {
		for range 2 {
			got := command(t, s.server.Addr(), "", "keys", "unlock", s.ids[state], "--reason=hangs", "--yes")
			if want := "[standard error]\nredisidem: " + want + "\n[exit status 1]\n"; got != want {
				t.Errorf("%s: it prints\n%s\nwant\n%s", state, got, want)
			}
		}
	}
	if got := command(t, s.server.Addr(), "", "audit", "--since=0"); strings.Count(got, "unlock: not locked") != 4 || strings.Count(got, "unlock: finished") != 2 {
		t.Errorf("the audit is\n%s", got)
	}
}
