package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestTablesFitTheScreen has names and texts of the longest form, and an entry of each kind in the
// audit.
func TestTablesFitTheScreen(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.server.SetTime(s.now)
	long := func(n int) string { return strings.Repeat("w", n) }
	failed := errors.New(long(300))
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: long(64), Version: 1 << 30, RecoverAfter: time.Second, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, failed
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	sc, in := s.svc.Scope(long(200)), redisidem.NewInspector(s.svc)
	tails := startTail(t, s.server.Addr())
	tails.until(t, "! all records were looked at")
	if _, err := sc.DoFlow(t.Context(), long(200), redisidem.Request{Method: "POST"}, flow); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	s.server.SetTime(s.now.Add(time.Hour))
	completer, err := redisidem.NewCompleter(s.svc, []*redisidem.Flow{flow}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := completer.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.server.SetTime(s.now.Add(2 * time.Hour))
	act := redisidem.Act{Actor: long(64), Reason: long(512)}
	name := fmt.Sprintf("%s/%d", long(64), 1<<30)
	if err := in.Pause(t.Context(), name, true, act); err != nil {
		t.Fatal(err)
	}
	if err := in.Resume(t.Context(), long(64), act); !errors.Is(err, redisidem.ErrNotPaused) {
		t.Fatal(err)
	}
	for _, err := range in.Purge(t.Context(), "none", "", act) {
		if err != nil {
			t.Fatal(err)
		}
	}
	tails.until(t, "  dead  ", "  act  ", "  act  ", "  act  ", "  dead-letters  ")
	text := strings.Join(tails.seen, "\n") + "\n"
	for _, args := range []string{"keys list", "dead list", "audit --since 0", "flows list", "flows versions " + long(64), "stats", "dead requeue --yes --reason=r", "audit --since 0"} {
		text += command(t, s.server.Addr(), "", strings.Fields(args)...)
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 130 {
			t.Errorf("a line has %d columns: %s", n, line)
		}
	}
	for _, want := range []string{sc.ID(long(200)), "  0 deleted, 0 locked, 0 unknown\n", "\n  " + long(100)} {
		if !strings.Contains(text, want) {
			t.Errorf("no line has %q:\n%s", want, text)
		}
	}
}

// TestOpenFlowsFitTheScreen has a million keys in each state.
func TestOpenFlowsFitTheScreen(t *testing.T) {
	t.Parallel()
	r := newRows("table", "FLOW OPEN OLDEST STATES")
	f := redisidem.OpenFlow{Flow: strings.Repeat("w", 80), Open: 6_000_000, States: make(map[redisidem.KeyState]int)}
	for _, state := range redisidem.KeyStates() {
		if state != redisidem.KeyFinished && state != redisidem.KeyUnreadable {
			f.States[state] = 1_000_000
		}
	}
	addOpenFlow(r, &f)
	for _, cells := range r.waiting {
		n := len(cells[len(cells)-1])
		for _, width := range r.widths[:len(cells)-1] {
			n += width + 2
		}
		if n > 130 || strings.Contains(cells[0], "…") && len(cells) == 1 {
			t.Errorf("a line has %d columns: %q", n, cells)
		}
	}
}

// TestTablesAlignWideCharacters has cells of characters that take two columns, or none.
func TestTablesAlignWideCharacters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"order": 5, "注文": 4, "한국": 4, "e\u0301": 1, "🛒": 2, "ａ": 2, "é": 1, "注文x": 5} {
		if got := columnsOf(text); got != want {
			t.Errorf("%q has %d columns, want %d", text, got, want)
		}
	}
	if got := cut("注文注文注文", 7); got != "注文注…" || columnsOf(got) != 7 {
		t.Errorf("cut returns %q, of %d columns", got, columnsOf(got))
	}
}

// TestKeysShowFitsTheScreen has a failure of the longest form, in wide characters.
func TestKeysShowFitsTheScreen(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	sc := s.svc.Scope(strings.Repeat("s", 200))
	text := strings.Repeat("支払いは拒否されました。", 6) + strings.Repeat("w", 30)
	_, err := sc.Do(t.Context(), "k", redisidem.Request{Method: "POST", Path: "/" + strings.Repeat("p", 200)}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Outcome{}, errors.New("redisidem: " + text)
	})
	if err == nil {
		t.Fatal("the attempt did not fail")
	}
	got := command(t, s.server.Addr(), "", "keys", "show", sc.ID("k"))
	for line := range strings.Lines(got) {
		if n := columnsOf(strings.TrimSuffix(line, "\n")); n > 130 {
			t.Errorf("a line has %d columns: %s", n, line)
		}
	}
	joined := regexp.MustCompile(`\n {2,}`).ReplaceAllString(got, "")
	if strings.Contains(got, "redisidem: ") || !strings.Contains(joined, text[:180]) {
		t.Errorf("it prints\n%s", got)
	}
}
