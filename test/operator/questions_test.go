//go:build unix

package operator

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// slowLogFrom is from which duration the server logs a command.
const slowLogFrom = 50 * time.Microsecond

var transcriptFile = flag.String("transcript", "", "the file for the questions with their commands and answers, as in docs/operations.md; none without")

// session is questions with their answers.
type session struct {
	*program
	transcript strings.Builder
}

// TestOneCommandAnswersEachQuestion fills a server with keys in every state, by workers that are
// killed and interrupted. It then asks each of an operator's questions with one command.
func TestOneCommandAnswersEachQuestion(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t, redistest.Args(
		"--slowlog-log-slower-than", fmt.Sprint(slowLogFrom.Microseconds()), "--slowlog-max-len", "100000", "--latency-monitor-threshold", "1"))
	p := build(t, server.Addr())
	keys := rung.Size(t, 10_000, 10_000, 10_000)
	s := newShop(t, server, keys)
	if t.Failed() {
		return
	}
	a := &session{program: p}
	id := func(how string) string { i := s.of[how][0]; return s.svc.Scope(tenant(i)).ID(order(i)) }

	text := a.ask("How many keys are in which state?", "stats")
	for state, percent := range map[string]int{
		"finished": 64, "unreadable": 1, "in-flight": 5, "dead": 5, "abandoned": 8, "interim": 5, "interrupted": 7, "idle": 5, "all": 100,
	} {
		a.mustCount(text, state, keys*percent/100)
	}
	a.ask("Which keys are stuck?", "keys list --state interrupted,abandoned,dead")
	if n := strings.Count(p.run("keys", "list", "--state", "interrupted,abandoned,dead", "--limit=0", "--output=json"), "\n"); n != keys/5 {
		t.Errorf("%d keys are stuck, want %d", n, keys/5)
	}
	a.ask("Which worker has a key, and since when?", "keys show "+id("in flight"), "in-flight: a worker has the lease", "given to worker-", "Lease left  ")
	a.ask("Why did a key fail?", "keys show "+id("failed in the flow"), "Failed last", errProvider.Error(), `stage "reserved" of checkout/1: 1 attempt`)
	a.ask("Which keys failed with this error?", `keys list --error "the worker was interrupted"`)
	if n := strings.Count(p.run("keys", "list", "--error", "the worker was interrupted", "--limit=0", "--output=json"), "\n"); n != keys*7/100 {
		t.Errorf("%d keys were interrupted, want %d", n, keys*7/100)
	}
	a.ask("What did the client get?", "keys show "+id("finished")+" --body", "Answer    201", `{"receipt":"`)
	a.ask("Which keys did completers give up?", "dead list", "checkout/1: 1 attempt")

	a.conflicts()
	a.mustNotOccupyTheServer(s)
	a.acts(s, id)
	if *transcriptFile != "" {
		if err := os.WriteFile(*transcriptFile, []byte(a.transcript.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a.mustBeOnThePage()
}

// conflicts asks for the conflicts of a gateway's clients: they send a request twice at the same
// time, and use a key for two requests.
func (a *session) conflicts() {
	a.t.Helper()
	began, hold := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if first.CompareAndSwap(false, true) {
			close(began)
			<-hold
		}
		w.WriteHeader(http.StatusCreated)
	}))
	defer upstream.Close()
	url, admin := a.gateway(upstream.URL, "routes: [{match: POST /orders}, {match: POST /refunds}]\n")
	post := func(path, key, body string, want int) {
		r, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, url+path, strings.NewReader(body))
		if err != nil {
			a.t.Error(err)
			return
		}
		r.Header.Set("Idempotency-Key", key)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			a.t.Error(err)
			return
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			a.t.Errorf("%s %s has status %d, want %d", path, key, response.StatusCode, want)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { post("/orders", "a", "{}", 201) })
	<-began
	for range 3 {
		post("/orders", "a", "{}", 409)
	}
	close(hold)
	wg.Wait()
	post("/refunds", "b", "{}", 201)
	for range 2 {
		post("/refunds", "b", "[]", 422)
	}
	text := a.ask("Which routes have conflicts?", "routes "+admin+" --result in-flight,mismatch")
	if words := strings.Join(strings.Fields(text), " "); words != "ROUTE RESULT REQUESTS POST /orders in-flight 3 POST /refunds mismatch 2" {
		a.t.Errorf("the conflicts are\n%s", text)
	}
	http.DefaultClient.CloseIdleConnections()
}

// acts requeues dead letters, settles an interrupted key, and deletes a tenant.
func (a *session) acts(s *shop, id func(how string) string) {
	a.t.Helper()
	ctx := a.t.Context()
	dead := len(s.of["killed in the flow"]) + len(s.of["failed in the flow"])
	text := a.ask("The card processor is back. How do they continue?", `dead requeue --flow checkout --reason "the processor is back" --yes`)
	if n := strings.Count(text, "requeued"); n != dead {
		a.t.Errorf("%d dead letters were requeued, want %d", n, dead)
	}
	mended, err := redisidem.NewCompleter(s.svc, []*redisidem.Flow{checkout(ends(redisidem.Finish(redisidem.JSON(201, "charged")), nil))}, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	finished := int64(0)
	for end := time.Now().Add(patience); finished < int64(dead); {
		swept, err := mended.Sweep(ctx)
		if err != nil || time.Now().After(end) {
			a.t.Fatalf("%d of %d requeued keys were finished: %v", finished, dead, err)
		}
		finished += swept.Finished
	}
	if text := a.run("dead", "list", "--output=json"); text != "" {
		a.t.Errorf("there are still dead letters:\n%s", text)
	}

	answer := []byte(`{"receipt":"4711"}`)
	if err := os.WriteFile(filepath.Join(a.dir, "answer.json"), answer, 0o600); err != nil {
		a.t.Fatal(err)
	}
	a.ask("The provider says that an interrupted order was charged. How does the client learn it?",
		"keys resolve "+id("interrupted")+` --status 201 --body answer.json --reason "ticket 4711" --yes`, "resolved")
	i := s.of["interrupted"][0]
	key, err := s.svc.Scope(tenant(i)).Do(ctx, order(i), request, ends(redisidem.Outcome{}, errProvider))
	if err != nil || !key.Finished() || !bytes.Equal(key.Response.Body, answer) {
		a.t.Errorf("the client's retry gets %+v, %v", key, err)
	}

	// Workers that are alive have keys of every tenant: they are left.
	busy, held := 0, 0
	for how, numbers := range s.of {
		for _, i := range numbers {
			if tenant(i) == "tenant-7" {
				held++
				if how == "in flight" {
					busy++
				}
			}
		}
	}
	want := fmt.Sprintf("HITS LOCKED %d %d", held-busy, busy)
	text = a.ask("A tenant leaves. How many keys would a purge hit, and how many are in flight?", "scope purge tenant-7 --dry-run")
	if words := strings.Join(strings.Fields(text), " "); words != want {
		a.t.Errorf("it says %s, want %s", words, want)
	}
	a.unlock(s)
	text = a.ask("How are they deleted, after the keys in flight were unlocked?", `scope purge tenant-7 --reason "the contract ended" --yes`)
	if words := strings.Fields(text); !slices.Contains(words, fmt.Sprint(held)) {
		a.t.Errorf("%d keys are to be deleted:\n%s", held, text)
	}
	if text := a.run("keys", "list", "--scope=tenant-7", "--limit=0", "--output=json"); text != "" {
		a.t.Errorf("the tenant still has keys:\n%.1000s", text)
	}
	text = a.ask("Who did what, and why?", "audit")
	for what, want := range map[string]int{
		"  requeue  ": dead, "  resolve  ": 1, "  unlock  ": busy, "  purge: began  ": 1, fmt.Sprintf("\n  %d deleted, 0 locked, 0 unknown\n", held): 1,
	} {
		if n := strings.Count(regexp.MustCompile(` {2,}`).ReplaceAllString(text, "  "), what); n != want {
			a.t.Errorf("the audit has %d entries %q, want %d", n, what, want)
		}
	}
}

// unlock takes the keys of a tenant away from the workers that are alive.
func (a *session) unlock(s *shop) {
	a.t.Helper()
	in := redisidem.NewInspector(s.svc)
	for _, i := range s.of["in flight"] {
		if tenant(i) != "tenant-7" {
			continue
		}
		key, err := in.Get(a.t.Context(), tenant(i), order(i))
		if err == nil {
			err = in.Unlock(a.t.Context(), key, redisidem.Act{Actor: "ann", Reason: "the contract ended"})
		}
		if err != nil {
			a.t.Fatal(err)
		}
	}
}

var quoted = regexp.MustCompile(`"([^"]*)"|\S+`)

// shownLines is how many lines of an answer a transcript has at most. Of longer ones it has four.
const shownLines = 20

// ask asks a question with a command, and returns what it prints on standard output, which must
// have some texts.
func (a *session) ask(question, command string, want ...string) string {
	a.t.Helper()
	var args []string
	for _, m := range quoted.FindAllStringSubmatch(command, -1) {
		args = append(args, m[0])
		if m[1] != "" {
			args[len(args)-1] = m[1]
		}
	}
	began := time.Now()
	text := a.run(args...)
	a.t.Logf("%8v  %s", time.Since(began).Round(time.Millisecond), command)
	for _, w := range want {
		if !strings.Contains(text, w) {
			a.t.Errorf("%s does not print %q:\n%.2000s", command, w, text)
		}
	}
	lines := strings.SplitAfter(text, "\n")
	rest := ""
	if len(lines) > shownLines {
		rest = fmt.Sprintf("... (%d more lines)\n", len(lines)-1-4)
		lines = lines[:4]
	}
	fmt.Fprintf(&a.transcript, "%s\n\n```\n$ redisidem %s\n%s%s```\n\n", question, command, strings.Join(lines, ""), rest)
	return text
}

// mustCount fails the test unless the row of a state in a table of statistics is right.
func (a *session) mustCount(text, state string, want int) {
	a.t.Helper()
	var count, off int
	row := regexp.MustCompile(`(?m)^` + state + ` +(\d+) +(?:±(\d+)|counted)$`).FindStringSubmatch(text)
	if row == nil {
		a.t.Errorf("there are no statistics of %s keys:\n%s", state, text)
		return
	}
	_, _ = fmt.Sscan(row[1], &count)
	_, _ = fmt.Sscan(row[2], &off)
	// Five times as far off as one in twenty estimates is.
	if count < want-5*off || count > want+5*off {
		a.t.Errorf("%d±%d keys are %s, want %d", count, off, state, want)
	}
}

// mustBeOnThePage compares the commands with those of docs/operations.md, which has a transcript.
func (a *session) mustBeOnThePage() {
	a.t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		a.t.Fatal(err)
	}
	lines := func(text string) string {
		found := regexp.MustCompile(`(?m)^\$ redisidem .*\n.*$`).FindAllString(text, -1)
		for i, line := range found {
			// IDs, addresses, counts and the width of columns differ from run to run.
			line = regexp.MustCompile(`[\w-]{32}|\d+`).ReplaceAllString(line, "#")
			found[i] = regexp.MustCompile(` +`).ReplaceAllString(line, " ")
		}
		return strings.Join(found, "\n")
	}
	if got, want := lines(string(page)), lines(a.transcript.String()); got != want {
		a.t.Errorf("docs/operations.md has other commands or answers (-transcript FILE writes them, with -size change):\n%s\nwant\n%s", got, want)
	}
}

// mustNotOccupyTheServer adds many keys, and measures statistics, the beginning of each list, and
// the pages of the console: how long each takes, and the longest command of the server meanwhile.
func (a *session) mustNotOccupyTheServer(s *shop) {
	a.t.Helper()
	more := rung.Size(a.t, 100_000, 1_000_000, 1_000_000)
	fill(a.t, s.svc, more)
	admin := s.server.Client()
	defer func() { _ = admin.Close() }()
	asked := map[string]func() time.Duration{"console /": a.page(s, "/"), "console /dead": a.page(s, "/dead"), "console /audit": a.page(s, "/audit?since=0")}
	for _, command := range []string{"stats", "dead list", "audit --since 0"} {
		asked[command] = func() time.Duration { return a.first(command) }
	}
	// These find nothing, so that they look at every record. Their time is that for 100,000 keys.
	whole := make(map[string]bool)
	for _, filter := range []string{"--flow nosuch", "--error nosuch", "--attempts 99", "--scope nosuch", "--older-than 24h"} {
		command := "keys list " + filter
		asked[command], whole[command] = func() time.Duration { return a.first(command) }, true
		if text := a.run(append(strings.Fields(command), "--output=json")...); text != "" {
			a.t.Errorf("%s finds %s", command, text)
		}
	}
	for _, filter := range []string{"--flow checkout", "--error interrupted", "--attempts 1", "--scope " + tenant(0)} {
		command := "keys list " + filter
		asked[command] = func() time.Duration { return a.first(command) }
	}
	for _, state := range redisidem.KeyStates() {
		command := "keys list --state " + state.String()
		asked[command] = func() time.Duration { return a.first(command) }
		path := "/keys?state=" + state.String()
		asked["console "+path] = a.page(s, path)
	}
	var slowest, empty, longest, seen time.Duration
	for _, question := range slices.Sorted(maps.Keys(asked)) {
		// On a busy machine any command may wait for the processor: the best of a few runs is what
		// it takes by itself.
		took, monitored := time.Duration(1<<62), time.Duration(1<<62)
		occupied := make(map[string]time.Duration)
		for run := range 5 {
			t, slow, event := a.measure(admin, asked[question])
			took, monitored = min(took, t), min(monitored, event)
			if run == 0 {
				occupied = slow
			}
			for args, d := range occupied {
				if slow[args] == 0 {
					delete(occupied, args)
				} else {
					occupied[args] = min(d, slow[args])
				}
			}
		}
		most := time.Duration(0)
		for _, d := range occupied {
			most = max(most, d)
		}
		if whole[question] {
			took = took * 100_000 / time.Duration(s.next+more)
			empty = max(empty, took)
		} else {
			slowest = max(slowest, took)
		}
		a.t.Logf("%8v  %8v  %8v  %s", took.Round(time.Millisecond), most, monitored, question)
		longest, seen = max(longest, most), max(seen, monitored)
	}
	if empty >= 3*time.Second {
		a.t.Errorf("a list that finds nothing among 100,000 keys takes %v, want less than 3 seconds", empty)
	}
	if slowest >= time.Second || longest >= time.Millisecond {
		a.t.Errorf("the slowest answer takes %v, want less than a second; one command occupies the server for %v at once, want less than a millisecond", slowest, longest)
	}
	rung.Figure(a.t, "operator", "%d keys in 8 states, and %d more: each question has one command; statistics, the first key of each list, "+
		"and each page of the console within %d ms; a list that finds nothing looks at 100,000 keys within %d ms; no command occupies the server for %d µs, and the latency monitor has seen at most %d ms in the best of five runs", s.next, more, slowest.Milliseconds()+1, empty.Milliseconds()+1, max(slowLogFrom, longest).Microseconds()+1, seen.Milliseconds())
}

// first runs a command, and returns how long it takes to its end or, for a list of keys, to its
// first key.
func (a *session) first(command string) (took time.Duration) {
	a.t.Helper()
	cmd := a.command(strings.Fields(command)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	first := time.Duration(0)
	lines := 0
	for s := bufio.NewScanner(out); s.Scan(); lines++ {
		if lines == 1 {
			first = time.Since(began)
		}
	}
	if err := cmd.Wait(); err != nil {
		a.t.Fatalf("%s: %v", command, err)
	}
	if strings.Contains(command, "list") && lines > 1 {
		return first
	}
	return time.Since(began)
}

// page returns a function that opens a page of a new console, and returns
// how long that takes.
func (a *session) page(s *shop, path string) func() time.Duration {
	return func() time.Duration {
		a.t.Helper()
		pages, err := console.New(redisidem.NewInspector(s.svc), console.Config{
			Authorize: func(*http.Request) (console.User, bool) { return console.User{Role: console.RoleViewer}, true },
		})
		if err != nil {
			a.t.Fatal(err)
		}
		defer pages.Close()
		w := httptest.NewRecorder()
		began := time.Now()
		pages.ServeHTTP(w, httptest.NewRequestWithContext(a.t.Context(), http.MethodGet, path, http.NoBody))
		took := time.Since(began)
		if w.Code != http.StatusOK {
			a.t.Fatalf("%s has status %d: %s", path, w.Code, w.Body)
		}
		return took
	}
}

// measure asks a question, and returns how long the answer takes. It also returns which commands
// the server was occupied with for longer than slowLogFrom, and for how long, and the longest one
// that its latency monitor has seen, or 0 if none took a millisecond. Both have the same times, but
// the monitor does not say of which command.
func (a *session) measure(admin *redis.Client, ask func() time.Duration) (took time.Duration, slow map[string]time.Duration, monitored time.Duration) {
	a.t.Helper()
	ctx := a.t.Context()
	if err := admin.SlowLogReset(ctx).Err(); err != nil {
		a.t.Fatal(err)
	}
	if err := admin.Do(ctx, "latency", "reset").Err(); err != nil {
		a.t.Fatal(err)
	}
	took = ask()
	events, err := admin.Latency(ctx).Result()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, event := range events {
		if strings.HasSuffix(event.Name, "command") {
			monitored = max(monitored, event.Max)
		}
	}
	entries, err := admin.SlowLogGet(ctx, -1).Result()
	if err != nil {
		a.t.Fatal(err)
	}
	slow = make(map[string]time.Duration)
	for _, entry := range entries {
		args := strings.Join(entry.Args, " ")
		if d := slow[args]; !strings.HasPrefix(args, "slowlog") && (d == 0 || entry.Duration < d) {
			slow[args] = entry.Duration
		}
	}
	return took, slow, monitored
}
