package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"
	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

var update = flag.Bool("update", false, "write the golden files")

// command runs the program and returns what it prints, first on standard output and then on
// standard error, and its exit status.
func command(t *testing.T, addr, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...) //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), program+"=1", "REDIS_URL=redis://"+addr, "REDISIDEM_ACTOR=ann")
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	text := stdout.String()
	if stderr.Len() > 0 {
		text += "[standard error]\n" + stderr.String()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		text += fmt.Sprintf("[exit status %d]\n", exit.ExitCode())
	} else if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestActsNeedNoActorFromTheEnvironment runs without $USER, as a container and cron do.
func TestActsNeedNoActorFromTheEnvironment(t *testing.T) {
	t.Parallel()
	for _, variables := range [][]string{nil, {"USER="}, {"REDISIDEM_ACTOR="}} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "keys", "delete", "CI_MUK8VUAXWvKKiz-x-ALtTkn4LMVYV", "--yes", "--reason=r", "--redis=redis://127.0.0.1:1") //nolint:gosec // this very binary
		cmd.Env = append([]string{program + "=1"}, variables...)
		if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "actor") || !strings.Contains(string(out), "unavailable") {
			t.Errorf("%q: %v: %s", variables, err, out)
		}
	}
	for want, current := range map[string]func() (*user.User, error){
		"root":                             func() (*user.User, error) { return &user.User{Username: "root"}, nil },
		fmt.Sprintf("uid %d", os.Getuid()): func() (*user.User, error) { return nil, user.UnknownUserIdError(4711) },
	} {
		if got := userName(current); got != want {
			t.Errorf("the actor is %q, want %q", got, want)
		}
	}
}

// golden compares a text with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it):\n%s", file, difference(string(want), got))
	}
}

// difference returns the first lines that differ.
func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d is\n%s\nwant\n%s", i+1, b[i], a[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(b), len(a))
}

// shop is an embedded server whose time stands still, with a key in each state.
type shop struct {
	server *miniredis.Miniredis
	svc    *redisidem.Service
	ids    map[string]string // by scope
	now    time.Time
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{server: miniredis.RunT(t), ids: make(map[string]string)}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	s.server.SetTime(now)
	secret := codec.EncryptionKey{ID: "k1", Secret: bytes.Repeat([]byte("1"), 32)}
	encryption, err := codec.NewEncryption(secret)
	if err != nil {
		t.Fatal(err)
	}
	open := func(values redisidem.Codec) *redisidem.Service {
		svc, err := redisidem.OpenUnchecked("redis://"+s.server.Addr(), &redisidem.Config{
			Timeout: 20 * time.Second, Lease: time.Hour, Owner: "worker-1", Codec: values,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = svc.Close(context.Background()) })
		return svc
	}
	s.svc = open(nil)
	ctx := t.Context()
	request := redisidem.Request{Method: "POST", Path: "/orders", Params: []byte(`{"cart":7}`)}
	step := func(o redisidem.Outcome, err error) redisidem.StageFunc {
		return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			s.server.SetTime(now.Add(250 * time.Millisecond))
			return o, err
		}
	}
	failed := errors.New("the provider is away")
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, RecoverAfter: time.Second, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: step(redisidem.Next(), nil)}, {Point: "paid", Work: step(redisidem.Outcome{}, failed)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{"dead", "finished", "interim", "interrupted", "in-flight", "abandoned", "idle", "unreadable", "encrypted", "due"} {
		now = now.Add(time.Hour)
		s.server.SetTime(now)
		sc := s.svc.Scope(scope)
		switch scope {
		case "dead", "due":
			_, err = sc.DoFlow(ctx, "order-1", request, flow)
			if scope == "dead" && errors.Is(err, failed) {
				s.server.SetTime(now.Add(time.Minute))
				completer, newErr := redisidem.NewCompleter(s.svc, []*redisidem.Flow{flow}, nil)
				if newErr != nil {
					t.Fatal(newErr)
				}
				if _, err := completer.Sweep(ctx); err != nil {
					t.Fatal(err)
				}
			}
		case "finished":
			_, err = sc.Do(ctx, "order-1", request, step(redisidem.Finish(redisidem.JSON(201, "secret of a customer")), nil))
		case "encrypted":
			_, err = open(encryption).Scope(scope).Do(ctx, "order-1", request, step(redisidem.Finish(redisidem.JSON(201, "secret of a customer")), nil))
		case "interim":
			_, err = sc.Do(ctx, "order-1", request, step(redisidem.Interim("paid", redisidem.JSON(202, "confirm")), nil))
		case "interrupted":
			_, err = sc.Do(ctx, "order-1", request, step(redisidem.Outcome{}, failed))
		case "idle":
			_, err = sc.InitializeRequest(ctx, "order-1\x1b[31m \xff", request)
		default:
			_, err = sc.InitializeRequest(ctx, "order-1", request)
		}
		if err != nil && !errors.Is(err, failed) {
			t.Fatal(err)
		}
		s.ids[scope] = sc.ID("order-1")
		if scope == "in-flight" || scope == "abandoned" {
			lease, err := sc.Lock(ctx, "order-1")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = lease.Abandon(context.Background()) })
		}
		for _, name := range s.server.Keys() {
			switch {
			case scope == "abandoned" && strings.HasSuffix(name, s.ids[scope]+":lock"):
				s.server.Del(name)
			case scope == "unreadable" && strings.HasSuffix(name, s.ids[scope]):
				s.server.HSet(name, "control", "9 of the next version")
			}
		}
	}
	s.now = now.Add(time.Minute)
	return s
}

// TestOperatorsCommands compares what each command prints, in one session, with
// testdata/operator.txt.
func TestOperatorsCommands(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	keys := keyRing(t, "k1")
	var session strings.Builder
	for _, line := range []struct{ args, stdin string }{
		{args: "keys list"},
		{args: "keys list --state interrupted,abandoned --older-than 30m"},
		{args: "keys list --scope finished --output json"},
		{args: "keys list --flow order/1"},
		{args: "keys list --state stuck"},
		{args: "keys show @dead"},
		{args: "keys show @finished"},
		{args: "keys show @finished --body"},
		{args: "keys show @finished --body --output json"},
		{args: "keys show @in-flight"},
		{args: "keys show @unreadable"},
		{args: "keys show @encrypted"},
		{args: "keys show @encrypted --body --encryption-key-file KEYS"},
		{args: "keys show order-1 --scope interim"},
		{args: "keys show no-such-key"},
		{args: "keys show AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
		{args: "keys show @dead --namespace other"},
		{args: "stats"},
		{args: "stats --output json"},
		{args: "flows"},
		{args: "flows pause order --clients"},
		{args: "flows pause order --clients --reason=provider-down", stdin: "y\n"},
		{args: "flows pause order/1 --reason=defect --yes --output json"},
		{args: "flows pause order/x --reason=defect --yes"},
		{args: "flows"},
		{args: "flows --output json"},
		{args: "flows resume order --reason=mended --yes"},
		{args: "flows resume order --reason=mended --yes"},
		{args: "flows resume order/1 --reason=mended --yes"},
		{args: "flows reindex order --reason=lost --yes"},
		{args: "flows reindex order --reason=lost --yes --pace=0"},
		{args: "flows reindex order --reason=lost"},
		{args: "dead list"},
		{args: "keys unlock @in-flight"},
		{args: "keys unlock @in-flight --reason=hangs", stdin: "no\n"},
		{args: "keys unlock @in-flight --reason=hangs", stdin: "y\n"},
		{args: "keys requeue @due --reason=again --yes"},
		{args: "keys delete @due --reason=test --yes"},
		{args: "keys resolve @interrupted --status 201 --reason=charged --yes"},
		{args: "keys resolve @interrupted --status 201 --reason=charged --yes"},
		{args: "dead requeue --reason=mended"},
		{args: "dead requeue --reason=mended --yes"},
		{args: "dead requeue --reason=mended --yes --output json"},
		{args: "dead requeue --flow=nosuch --reason=mended"},
		{args: "dead delete --reason=mended --yes"},
		{args: "dead list"},
		{args: "scope purge finished --dry-run"},
		{args: "scope purge finished --reason=left --yes"},
		{args: "scope purge finished --reason=left --yes --output json"},
		{args: "keys cancel @dead --reason=withdrawn --yes"},
		{args: "keys cancel @interrupted --reason=withdrawn --yes"},
		{args: "keys show @dead"},
		{args: "audit --since 0"},
		{args: "audit --since 0 --output json --key @interrupted"},
		{args: "keys"},
		{args: "flows versions order"},
		{args: "flows versions order --output json"},
		{args: "flows versions order/1"},
		{args: "flows versions nosuch"},
		{args: "flows versions nosuch --output json"},
		{args: "keys list --no-such-flag"},
	} {
		args := strings.Fields(line.args)
		for i, word := range args {
			if scope, ok := strings.CutPrefix(word, "@"); ok {
				args[i] = s.ids[scope]
			}
			args[i] = strings.Replace(args[i], "KEYS", keys, 1)
		}
		s.now = s.now.Add(time.Second)
		s.server.SetTime(s.now)
		fmt.Fprintf(&session, "$ redisidem %s\n", line.args)
		if line.stdin != "" {
			fmt.Fprintf(&session, "< %s", line.stdin)
		}
		session.WriteString(command(t, s.server.Addr(), line.stdin, args...) + "\n")
	}
	text := strings.ReplaceAll(session.String(), s.server.Addr(), "ADDRESS")
	golden(t, "operator.txt", text)
	for line := range strings.Lines(text) {
		if n := len([]rune(line)); n > 130 && !strings.HasPrefix(line, "{") {
			t.Errorf("a line has %d columns: %s", n, line)
		}
		if strings.Contains(line, "redisidem: redisidem:") || strings.Contains(line, "\x1b") || !utf8.ValidString(line) {
			t.Errorf("a line has a prefix twice, or what a terminal acts on: %q", line)
		}
	}
}

// operatorPages returns the text of the pages for operators.
func operatorPages(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for _, name := range []string{"operations.md", "alerts.md"} {
		page, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		text.Write(page)
	}
	return text.String()
}

// TestCommandsRefuseBadInput gives commands values outside of their bounds. They name the flag and
// the bound, and change nothing.
func TestCommandsRefuseBadInput(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	before := s.server.Dump()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"keys", "resolve", "@interrupted", "--status=101"}, "--status 101 must be from 200 to 599, or 0 for none"},
		{[]string{"keys", "resolve", "@interrupted", "--status=199"}, "--status 199 must be from 200 to 599, or 0 for none"},
		{[]string{"keys", "resolve", "@interrupted", "--status=600"}, "--status 600 must be from 200 to 599, or 0 for none"},
		{[]string{"keys", "resolve", "@interrupted", "--status=-1"}, "--status -1 must be from 200 to 599, or 0 for none"},
		{[]string{"dead", "requeue", "--rate=0"}, "--rate 0 must be from 1 to 1000000"},
		{[]string{"dead", "requeue", "--rate=1000001"}, "--rate 1000001 must be from 1 to 1000000"},
		{[]string{"dead", "requeue", "--rate=1000000001"}, "--rate 1000000001 must be from 1 to 1000000"},
		{[]string{"dead", "requeue", "--flow=a b"}, `redisidem: Filter.Flow must be the name of a flow, or name/version: "a b"`},
		{[]string{"dead", "delete", "--older-than=-1h"}, "redisidem: Filter.OlderThan must not be negative: -1h0m0s"},
		{[]string{"dead", "delete", "--attempts=-1"}, "redisidem: Filter.Attempts must not be negative: -1"},
		{[]string{"scope", "purge", "", "--dry-run"}, "redisidem: scope must not be empty"},
		{[]string{"scope", "purge", ""}, "redisidem: scope must not be empty"},
	} {
		for i, arg := range c.args {
			if id, ok := strings.CutPrefix(arg, "@"); ok {
				c.args[i] = s.ids[id]
			}
		}
		if c.args[len(c.args)-1] != "--dry-run" {
			c.args = append(c.args, "--reason=test", "--yes")
		}
		got := command(t, s.server.Addr(), "", c.args...)
		if !strings.Contains(got, c.want+"\n") || !strings.HasSuffix(got, "[exit status 2]\n") || strings.Contains(got, "goroutine") {
			t.Errorf("%q: %s, want %q", c.args, got, c.want)
		}
	}
	if after := s.server.Dump(); after != before {
		t.Errorf("Redis has changed:\n%s", difference(before, after))
	}
	if got := command(t, s.server.Addr(), "", "scope", "usage", ""); !strings.Contains(got, "redisidem: scope must not be empty\n") {
		t.Error(got)
	}
}

// TestPagesForOperatorsNameCommands parses each command of docs/operations.md and docs/alerts.md.
func TestPagesForOperatorsNameCommands(t *testing.T) {
	t.Parallel()
	page := operatorPages(t)
	lines := regexp.MustCompile("`redisidem ([^`]+)`").FindAllStringSubmatch(page, -1)
	if len(lines) < 17 {
		t.Fatalf("%d commands are found", len(lines))
	}
	quoted := regexp.MustCompile(`"[^"]*"`)
	for _, line := range lines {
		words := strings.Fields(quoted.ReplaceAllString(line[1], "quoted"))
		if i := slices.Index(words, "gateway.yaml"); i >= 0 {
			words[i] = os.DevNull // a file that exists
		}
		parser, err := kong.New(&cli{}, kong.Name("redisidem"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains([]string{"routes", "plan", "gateway"}, words[0]) {
			words = append(words, "--redis=redis://127.0.0.1:1")
		}
		if _, err := parser.Parse(words); err != nil {
			t.Errorf("%s: %v", line[1], err)
		}
	}
	for _, state := range redisidem.KeyStates() {
		if !strings.Contains(page, "\n| `"+state.String()+"` |") {
			t.Errorf("the page does not describe %s keys", state)
		}
	}
}

func TestProgramAlonePrintsHelp(t *testing.T) {
	t.Parallel()
	text := command(t, "127.0.0.1:1", "")
	if !strings.HasPrefix(text, "Usage: redisidem <command>") || !strings.HasSuffix(text, "more information on a command.\n") {
		t.Errorf("it prints\n%s", text)
	}
	if version := command(t, "127.0.0.1:1", "", "version"); !strings.HasPrefix(version, "redisidem  ") || !strings.Contains(version, "\ngo         1.") || !strings.Contains(version, "\ncommit     ") {
		t.Errorf("the version is\n%s", version)
	}
}

// TestOperatorsCommandsWithoutAServer has no server, a server that asks for a password, and a user
// that may only read.
func TestOperatorsCommandsWithoutAServer(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	rules := regexp.MustCompile(`(?s)ACL SETUSER viewer on >password (.*?)` + "```").FindStringSubmatch(operatorPages(t))
	if rules == nil {
		t.Fatal("the page has no rules for a user that may only read")
	}
	for _, rule := range append([]string{"reset", "on", ">hunter2"}, strings.Fields(rules[1])...) {
		if strings.HasPrefix(rule, "+client|") {
			continue // older servers do not have all of them, and go-redis does without
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
	key, err := svc.Scope("a").InitializeRequest(t.Context(), "k", redisidem.Request{Method: "POST", Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	reader := "reader:hunter2@" + server.Addr()
	for _, c := range []struct {
		addr, args, want string
	}{
		{"127.0.0.1:1", "keys list --timeout 50ms", "redisidem: list: redis unavailable:"},
		{"reader:wrong@" + server.Addr(), "stats --timeout 1s", "WRONGPASS"},
		{reader, "keys list --timeout 20s", key.ID()},
		{reader, "keys show --timeout 20s " + key.ID(), "State     idle"},
		{reader, "audit --timeout 20s", "WHEN"},
		{reader, "stats --timeout 20s", "idle         1     counted"},
		{reader, "flows --timeout 20s", "1 idle"},
		{reader, "keys delete --timeout 20s --yes --reason=r " + key.ID(), "delete: the Redis user lacks a right"},
	} {
		got := command(t, c.addr, "", strings.Fields(c.args)...)
		if !strings.Contains(got, c.want) || strings.Contains(got, "hunter2") || strings.Contains(got, "wrong@") {
			t.Errorf("%s prints\n%s", c.args, got)
		}
	}
}
