package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestDeadListSaysTheCause looks for the error that used up the attempts.
func TestDeadListSaysTheCause(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.server.SetTime(s.now)
	for args, want := range map[string]string{
		"dead list":               "\n  stage \"paid\": the provider is away\n",
		"dead list --output json": `"text":"redisidem: stage \"paid\": the provider is away"`,
	} {
		if got := command(t, s.server.Addr(), "", strings.Fields(args)...); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q:\n%s", args, want, got)
		}
	}
}

// startDead starts a command on some dead letters, and returns its process and its standard output.
func startDead(t *testing.T, addr string, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"dead"}, args...)...) //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), program+"=1", "REDIS_URL=redis://"+addr, "REDISIDEM_ACTOR=ann")
	cmd.SysProcAttr = dieWithParent()
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(stdout)
}

// buryMore makes more dead letters, and returns the flow that they belong to.
func buryMore(t *testing.T, s *shop, values ...string) *redisidem.Flow {
	t.Helper()
	failed := errors.New("the provider is away")
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, RecoverAfter: time.Second, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, failed
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range values {
		if _, err := s.svc.Scope("acme").DoFlow(t.Context(), value, redisidem.Request{Method: "POST"}, flow); !errors.Is(err, failed) {
			t.Fatal(err)
		}
	}
	s.now = s.now.Add(time.Hour)
	s.server.SetTime(s.now)
	completer, err := redisidem.NewCompleter(s.svc, []*redisidem.Flow{flow}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := completer.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	return flow
}

// TestKilledRequeueHasSaidWhatItDid kills the command between two dead letters, and compares what
// it has printed with the audit.
func TestKilledRequeueHasSaidWhatItDid(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	buryMore(t, s, "order-2", "order-3", "order-4")
	cmd, lines := startDead(t, s.server.Addr(), "requeue", "--reason=mended", "--yes", "--rate=1", "--scope=acme")
	for want := range 2 { // the heading and the first dead letter
		if !lines.Scan() {
			t.Fatalf("%d lines are printed: %v", want, lines.Err())
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	printed := []string{lines.Text()}
	for lines.Scan() {
		printed = append(printed, lines.Text())
	}
	_ = cmd.Wait()
	entries, err := redisidem.NewInspector(s.svc).Audit(t.Context(), time.Time{}, time.Time{})
	if err != nil || len(entries) != len(printed) || len(printed) == 3 {
		t.Fatalf("it has printed %q, and the audit is %+v, %v", printed, entries, err)
	}
	for i, e := range entries {
		if printed[i] != e.KeyID+"  requeued" {
			t.Errorf("it has printed %q, and the audit is %+v", printed[i], e)
		}
	}
}

// TestRequeueGoesOnAfterADeadLetterThatHasChanged lets a client's retry run between two of them.
func TestRequeueGoesOnAfterADeadLetterThatHasChanged(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	values := []string{"order-2", "order-3", "order-4"}
	flow := buryMore(t, s, values...)
	cmd, lines := startDead(t, s.server.Addr(), "requeue", "--reason=mended", "--yes", "--rate=1", "--scope=acme")
	for lines.Scan() && !strings.Contains(lines.Text(), "requeued") {
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil { // or a busy machine may be late
		t.Fatal(err)
	}
	first, changed := lines.Text(), ""
	for _, value := range values {
		if id := s.svc.Scope("acme").ID(value); !strings.Contains(first, id) {
			_, _ = s.svc.Scope("acme").DoFlow(t.Context(), value, redisidem.Request{Method: "POST"}, flow)
			changed = id
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	var rest []string
	for lines.Scan() {
		rest = append(rest, lines.Text())
	}
	if err := cmd.Wait(); err == nil || len(rest) != 2 {
		t.Fatalf("the rest is %q, and it ends with %v", rest, err)
	}
	for _, line := range rest {
		if want := map[bool]string{true: "key has moved on", false: "requeued"}[strings.HasPrefix(line, changed)]; !strings.HasSuffix(line, "  "+want) {
			t.Errorf("it prints %q, want %q", line, want)
		}
	}
}

// TestDeadCommandsActOnWhatTheyHaveAskedAbout makes another dead letter, and mends one, while the
// question is on the screen.
func TestDeadCommandsActOnWhatTheyHaveAskedAbout(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	buryMore(t, s, "order-2", "order-3")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "dead", "delete", "--reason=old", "--scope=acme") //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), program+"=1", "REDIS_URL=redis://"+s.server.Addr(), "REDISIDEM_ACTOR=ann")
	cmd.SysProcAttr = dieWithParent()
	answer, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	asked, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	cmd.Stdout = &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if question, err := bufio.NewReader(asked).ReadString(']'); err != nil || !strings.Contains(question, "Delete 2 dead letters? [y/N]") {
		t.Fatalf("it asks %q, %v", question, err)
	}
	sc := s.svc.Scope("acme")
	key, err := sc.Retrieve(t.Context(), "order-2")
	if err == nil {
		_, err = sc.Update(t.Context(), key, redisidem.Advance("mended"))
	}
	if err != nil {
		t.Fatal(err)
	}
	buryMore(t, s, "order-5")
	if _, err := answer.Write([]byte("y\n")); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for value, gone := range map[string]bool{"order-2": false, "order-3": true, "order-5": false} {
		if _, err := sc.Retrieve(t.Context(), value); errors.Is(err, redisidem.ErrNotFound) != gone {
			t.Errorf("%s: %v; printed was\n%s", value, err, printed.String())
		}
	}
}

// TestRequeueRefusesAReasonOnce has a reason that is refused for all dead letters alike.
func TestRequeueRefusesAReasonOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	buryMore(t, s, "order-2")
	got := command(t, s.server.Addr(), "", "dead", "requeue", "--yes", "--reason="+strings.Repeat("r", 513))
	if want := "ID  DONE\n[standard error]\nredisidem: Act.Reason is 513 bytes long, more than 512\n[exit status 2]\n"; got != want {
		t.Errorf("it prints\n%s\nwant\n%s", got, want)
	}
}

// TestQuestionAboutDeadLettersIsBounded has one more than are kept in memory.
func TestQuestionAboutDeadLettersIsBounded(t *testing.T) {
	t.Parallel()
	letter, yielded := new(redisidem.KeyInfo), 0
	letters := func(yield func(*redisidem.KeyInfo, error) bool) {
		for yielded = 1; yielded <= 2*maxAsked && yield(letter, nil); yielded++ {
		}
	}
	_, err := new(actFlags).ask(t.Context(), letters, "Requeue")
	if want := "more than 100000 dead letters match"; err == nil || !strings.Contains(err.Error(), want) || yielded != maxAsked+1 {
		t.Errorf("after %d it returns %v, want %s", yielded, err, want)
	}
}
